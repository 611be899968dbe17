/* SPDX-License-Identifier: Apache-2.0 */
/* The part of port.h that a C library has: output, files, the end. */
#include "port.h"

#include <stdio.h>
#include <stdlib.h>

enum { FILES = 8 };

static FILE *files[FILES];

void mmcc_port_print(const char *text)
{
    (void)fputs(text, stdout);
}

void mmcc_port_print_u32(uint32_t value)
{
    (void)printf("%lu", (unsigned long)value);
}

void mmcc_port_print_hex(uint32_t value)
{
    (void)printf("0x%08lx", (unsigned long)value);
}

void mmcc_port_exit(int32_t code)
{
    exit((int)code);
}

static int32_t open_file(const char *name, const char *mode)
{
    for (int32_t i = 0; i < FILES; ++i) {
        if (files[i] == NULL) {
            files[i] = fopen(name, mode);
            return files[i] == NULL ? -1 : i;
        }
    }
    return -1;
}

int32_t mmcc_port_open_read(const char *name)
{
    return open_file(name, "rb");
}

int32_t mmcc_port_open_write(const char *name)
{
    return open_file(name, "wb");
}

uint32_t mmcc_port_file_size(int32_t file)
{
    (void)fseek(files[file], 0, SEEK_END);
    const long size = ftell(files[file]);
    (void)fseek(files[file], 0, SEEK_SET);
    return size < 0 ? 0U : (uint32_t)size;
}

int32_t mmcc_port_read(int32_t file, void *bytes, uint32_t count)
{
    return fread(bytes, 1, count, files[file]) == count ? 0 : -1;
}

int32_t mmcc_port_write(int32_t file, const void *bytes, uint32_t count)
{
    return fwrite(bytes, 1, count, files[file]) == count ? 0 : -1;
}

void mmcc_port_close(int32_t file)
{
    (void)fclose(files[file]);
    files[file] = NULL;
}
