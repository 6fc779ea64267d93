/* Generated from orthanc/OrthancCPlugin.h by protocol/generator/generate.py; do not edit. */
/* SPDX-License-Identifier: GPL-3.0-or-later */

/* What sdk_custom.c implements; OPB_SDK_HAS_... says whether this SDK has it. */

#ifndef OPB_SDK_CUSTOM_GEN_H
#define OPB_SDK_CUSTOM_GEN_H

struct opb_invocation;

#define OPB_SDK_HAS_Register 1
void opb_custom__Register(struct opb_invocation *inv);
#define OPB_SDK_HAS_Release 1
void opb_custom__Release(struct opb_invocation *inv);
#define OPB_SDK_HAS_Fence 1
void opb_custom__Fence(struct opb_invocation *inv);
#define OPB_SDK_HAS_DicomInstance_GetInstanceData 1
void opb_custom_DicomInstance_GetInstanceData(struct opb_invocation *inv);
#define OPB_SDK_HAS_GetCommandLineArgument 1
void opb_custom_GetCommandLineArgument(struct opb_invocation *inv);
#define OPB_SDK_HAS_Image_ConvertPixelFormat 1
void opb_custom_Image_ConvertPixelFormat(struct opb_invocation *inv);

#endif
