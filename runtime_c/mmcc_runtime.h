/* SPDX-License-Identifier: Apache-2.0 */
/* mmcc runtime: what every generated model shares. Header only; C99 and C++; needs no libc but string.h. */
#ifndef MMCC_RUNTIME_H
#define MMCC_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "mmcc: weights and kernels are for little-endian cores"
#elif defined(__BIG_ENDIAN__) || defined(__ARM_BIG_ENDIAN)
#error "mmcc: weights and kernels are for little-endian cores"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Changes when generated code and this header no longer fit together; the generated header checks it. */
#define MMCC_RUNTIME_ABI 3

/* What the functions of a generated model return: one of the values below, in a type of the same size for every
 * compiler option (an enum may be short). */
typedef int32_t mmcc_status;

enum {
    MMCC_OK = 0,
    MMCC_ERROR_NULL = 1,            /* a pointer argument is NULL */
    MMCC_ERROR_ARENA_SIZE = 2,      /* the arena is smaller than <NAME>_ARENA_SIZE */
    MMCC_ERROR_ARENA_ALIGNMENT = 3, /* the arena is not aligned to <NAME>_ARENA_ALIGN bytes */
    MMCC_ERROR_NOT_INITIALIZED = 4, /* <name>_init was not called on this context, or failed */
    MMCC_ERROR_STREAM = 5,          /* a callback for rows is missing, or returned something other than 0 */
    MMCC_ERROR_WEIGHTS = 6,         /* a callback for weights is missing, or returned something other than 0 */
    MMCC_ERROR_WEIGHTS_FILE = 7,    /* the file of weights is another model's, or is not whole */
    MMCC_ERROR_MOVE = 8,            /* a callback for moves is missing, or returned something other than 0 */
    MMCC_ERROR_PARAMETERS = 9,      /* no whole set of this model's parameters is kept, or a callback failed */
    MMCC_ERROR_OVERLAP = 10         /* two of the memories that <name>_init was given share bytes */
};

/* Small functions are inlined whatever the compiler thinks of it, so that they are in the section of their caller;
 * others go where the including file says. */
#if defined(__GNUC__) || defined(__clang__) || defined(__ARMCC_VERSION)
#define MMCC_INLINE static inline __attribute__((always_inline))
#else
#define MMCC_INLINE static inline
#endif
#ifndef MMCC_CODE_ATTRIBUTE
#define MMCC_CODE_ATTRIBUTE
#endif

/* Text for a status, for logs. */
static inline const char *mmcc_status_text(mmcc_status status)
{
    const char *text = "unknown status";
    switch (status) {
    case MMCC_OK: text = "ok"; break;
    case MMCC_ERROR_NULL: text = "a pointer is NULL"; break;
    case MMCC_ERROR_ARENA_SIZE: text = "the arena is too small"; break;
    case MMCC_ERROR_ARENA_ALIGNMENT: text = "the arena is not aligned"; break;
    case MMCC_ERROR_NOT_INITIALIZED: text = "the context is not initialized"; break;
    case MMCC_ERROR_STREAM: text = "a callback for rows is missing or failed"; break;
    case MMCC_ERROR_WEIGHTS: text = "a callback for weights is missing or failed"; break;
    case MMCC_ERROR_WEIGHTS_FILE: text = "the file of weights belongs to another model or is not whole"; break;
    case MMCC_ERROR_MOVE: text = "a callback for moves is missing or failed"; break;
    case MMCC_ERROR_PARAMETERS: text = "no whole set of parameters is kept, or a callback failed"; break;
    case MMCC_ERROR_OVERLAP: text = "two memories share bytes"; break;
    default: break;
    }
    return text;
}

/* Whether the bytes from one address on and those from the other have one in common: none where one has no bytes. */
MMCC_INLINE bool mmcc_overlap(uintptr_t a, uintptr_t bytes_from_a, uintptr_t b, uintptr_t bytes_from_b)
{
    return (bytes_from_a != 0u) && (bytes_from_b != 0u) && (((b - a) < bytes_from_a) || ((a - b) < bytes_from_b));
}

/* Alignment of a variable, for compilers of C99. */
#if defined(__GNUC__) || defined(__clang__) || defined(__ARMCC_VERSION)
#define MMCC_ALIGNED(bytes) __attribute__((aligned(bytes)))
#elif defined(__ICCARM__)
#define MMCC_PRAGMA(text) _Pragma(#text)
#define MMCC_ALIGNED(bytes) MMCC_PRAGMA(data_alignment = bytes)
#else
#error "mmcc: say here how this compiler aligns a variable"
#endif

/* Rounds to the nearest integer, ties to even, for |value| < 2^22: adding 1.5 * 2^23 leaves no fraction bits. */
MMCC_INLINE float mmcc_round_half_even(float value)
{
    volatile float shifted = value + 12582912.0f; /* volatile: the sum must be rounded to float here */
    return shifted - 12582912.0f;
}

/* ONNX QuantizeLinear to int8: saturate(round_half_even(real / scale) + zero_point). */
MMCC_INLINE int8_t mmcc_quantize_int8(float real, float scale, int32_t zero_point)
{
    float steps = real / scale;
    steps = steps > 1024.0f ? 1024.0f : steps;
    steps = steps > -1024.0f ? steps : -1024.0f; /* NaN becomes the least value */
    const int32_t value = (int32_t)mmcc_round_half_even(steps) + zero_point;
    return (int8_t)(value < -128 ? -128 : (value > 127 ? 127 : value));
}

#ifdef __cplusplus
}
#endif

#endif
