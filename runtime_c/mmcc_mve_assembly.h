/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc: functions for Helium that are assembly as a whole. */
#ifndef MMCC_MVE_ASSEMBLY_H
#define MMCC_MVE_ASSEMBLY_H

#include "mmcc_mve.h"

/* A function that is assembly as a whole: compilers must not change how it is called. */
#if defined(__clang__)
#define MMCC_MVE_ASSEMBLY MMCC_CODE_ATTRIBUTE __attribute__((naked, noinline, unused))
#else
#define MMCC_MVE_ASSEMBLY MMCC_CODE_ATTRIBUTE __attribute__((naked, noipa, unused))
#endif

#endif
