/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/page.h - the status page, put together from plugin/page/ when this is built */
#ifndef OPB_PAGE_H
#define OPB_PAGE_H

extern const unsigned char opb_page[]; /* HTML in UTF-8; no NUL at its end */
extern const unsigned int opb_page_bytes;
extern const char opb_page_policy[]; /* its Content-Security-Policy */

#endif
