/* SPDX-License-Identifier: Apache-2.0 */
/* Where newlib's mathematical functions note an error. Its own errno lies in a structure of 1 KB of RAM for files and
 * locales, which a model has no use for; nobody reads this one. */
int *__errno(void);

int *__errno(void)
{
    static int number;
    return &number;
}
