/* Generated from orthanc/OrthancCPlugin.h by protocol/generator/generate.py; do not edit. */
/* SPDX-License-Identifier: GPL-3.0-or-later */

/* The numbers of the functions whose results may be sent along with a handle. */

#ifndef OPB_SDK_FACTS_GEN_H
#define OPB_SDK_FACTS_GEN_H

enum opb_fact {
    OPB_FACT_NONE = 0, /* the number of _Register, which is none */
    OPB_FACT_DicomInstance_GetInstanceSize = 6,
    OPB_FACT_Image_GetImagePixelFormat = 13,
};

#endif
