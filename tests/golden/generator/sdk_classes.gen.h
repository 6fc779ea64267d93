/* Generated from orthanc/OrthancCPlugin.h by protocol/generator/generate.py; do not edit. */
/* SPDX-License-Identifier: GPL-3.0-or-later */

/* plugin/ names the classes of handles with these; same order as opb_py_classes. */

#ifndef OPB_SDK_CLASSES_GEN_H
#define OPB_SDK_CLASSES_GEN_H

enum opb_class {
    OPB_CLASS_DicomInstance,
    OPB_CLASS_FindMatcher,
    OPB_CLASS_Image,
    OPB_CLASS_RestOutput,
    OPB_CLASS_StorageArea,
    OPB_CLASS_WorklistAnswers,
    OPB_CLASS_WorklistQuery,
    OPB_CLASS_COUNT
};

/* By enum opb_class: "RestOutput". */
extern const char *const opb_class_names[OPB_CLASS_COUNT];

#endif
