/* SPDX-License-Identifier: Apache-2.0 */
/* The package's own self-test on a board: 0 is right. */
#include "net_selftest.h"

static NET_ARENA(arena);

int main(void)
{
    return (int)net_selftest(arena, sizeof arena);
}
