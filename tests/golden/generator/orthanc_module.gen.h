/* Generated from orthanc/OrthancCPlugin.h by protocol/generator/generate.py; do not edit. */
/* SPDX-License-Identifier: GPL-3.0-or-later */

/* Where the hand-written functions stand in opb_py_functions; HAS: this SDK has it. */

#ifndef OPB_ORTHANC_MODULE_GEN_H
#define OPB_ORTHANC_MODULE_GEN_H

#define OPB_PY_HAS_RegisterRestCallback 1
#define OPB_PY_RegisterRestCallback 8

#endif
