/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters are saved, torn, spoiled and loaded; each line printed is one thing that was seen. */
#include "net.h"

#include <stdio.h>
#include <string.h>

#define SLOT (NET_PARAMETERS_SAVED + MMCC_PARAMETERS_MARK)

static NET_ARENA(arena);
static NET_PARAMETERS(parameters);
static net_context model;
static uint8_t kept[2][SLOT];
static uint32_t allowed = 0xFFFFFFFFu; /* bytes that may still be written before the power goes */
static int32_t unsteady;               /* 1: from the second time on, reads give something else */
static uint32_t reads;

static int32_t read_kept(void *user, uint32_t slot, uint32_t offset, void *to, uint32_t bytes)
{
    (void)user;
    memcpy(to, kept[slot] + offset, bytes);
    if (unsteady != 0 && bytes == NET_PARAMETERS_SAVED) {
        *(uint8_t *)to ^= 1u;
    }
    ++reads;
    return 0;
}

static int32_t write_kept(void *user, uint32_t slot, uint32_t offset, const void *from, uint32_t bytes)
{
    (void)user;
    const uint32_t written = bytes < allowed ? bytes : allowed;
    memcpy(kept[slot] + offset, from, written);
    allowed -= written;
    return written == bytes ? 0 : -1;
}

static void say(const char *what, int32_t status)
{
    uint32_t sum = mmcc_crc32(0, parameters, NET_PARAMETERS_SAVED);
    printf("%s %d %08x\n", what, (int)status, (unsigned)sum);
}

static void learn(void)
{
    float loss = 0.0f;
    for (int32_t i = 0; i < 64; ++i) {
        net_train_step_input_0(&model)[i] = (float)(i % 7);
    }
    net_label_0(&model)[0] = 3;
    (void)net_train_step(&model, 0.01f, &loss);
}

int main(void)
{
    (void)net_init(&model, arena, sizeof arena, parameters, sizeof parameters);
    memset(kept, 0xFF, sizeof kept);
    say("nothing", net_parameters_load(&model, read_kept, NULL));
    learn();
    say("first", net_parameters_save(&model, read_kept, write_kept, NULL));
    learn();
    say("second", net_parameters_save(&model, read_kept, write_kept, NULL));
    learn();
    allowed = NET_PARAMETERS_SAVED / 2; /* the third is torn */
    say("torn", net_parameters_save(&model, read_kept, write_kept, NULL));
    allowed = 0xFFFFFFFFu;
    (void)net_init(&model, arena, sizeof arena, parameters, sizeof parameters);
    say("power", MMCC_OK);
    say("loaded", net_parameters_load(&model, read_kept, NULL));
    learn();
    say("again", net_parameters_save(&model, read_kept, write_kept, NULL));
    (void)net_reset(&model);
    say("newest", net_parameters_load(&model, read_kept, NULL));
    kept[0][5] ^= 4u; /* the newest is spoiled: the one before it is taken */
    say("spoiled", net_parameters_load(&model, read_kept, NULL));
    kept[1][SLOT - 12] ^= 4u; /* and this is another model's */
    say("foreign", net_parameters_load(&model, read_kept, NULL));
    kept[1][SLOT - 12] ^= 4u;
    unsteady = 1;
    say("unsteady", net_parameters_load(&model, read_kept, NULL));
    return 0;
}
