# SPDX-License-Identifier: Apache-2.0
"""The only ways in which text from a model reaches C: as an identifier, or escaped in a comment or string."""

from __future__ import annotations

import hashlib
import re

from mmcc.errors import whole_words

LONGEST = 40

_KEYWORDS = frozenset(
    """
    auto break case char const continue default do double else enum extern float for goto if inline int long
    register restrict return short signed sizeof static struct switch typedef union unsigned void volatile
    while alignas alignof and and_eq asm bitand bitor bool catch class compl concept const_cast consteval
    constexpr constinit co_await co_return co_yield decltype delete dynamic_cast explicit export false friend
    mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public
    reinterpret_cast requires static_assert static_cast template this thread_local throw true try typeid
    typename using virtual wchar_t xor xor_eq char8_t char16_t char32_t main errno linux unix arm
    """.split()  # noqa: SIM905
)

# A package's folder is where compilers look for headers first: a NAME.h called as one of the C library, or of
# the compiler, would take its place, also in that library's own headers. Those of glibc, musl and newlib.
_HEADERS = frozenset(
    """
    aio alloca ar argp argz assert byteswap complex cpio crypt ctype devctl dirent dlfcn elf endian envlock
    envz err errno error execinfo fastmath fcntl features fenv float fmtmsg fnmatch fstab fts ftw gconv
    getopt glob grp gshadow iconv ieeefp ifaddrs inttypes iso646 langinfo lastlog libgen libintl limits link
    locale malloc math mcheck memory mntent monetary mqueue ndbm netdb newlib nl_types nss obstack paths
    picolibc poll printf pthread pty pwd re_comp reent regdef regex regexp resolv sched search semaphore
    setjmp sgtty shadow signal spawn stab stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint
    stdio stdio_ext stdlib stdnoreturn string strings syscall sysexits syslog tar termio termios tgmath
    threads time ttyent uchar ucontext ulimit unctrl unistd unwind utime utmp utmpx values varargs wait
    wchar wctype wordexp arm_acle arm_bf16 arm_cde arm_cmse arm_fp16 arm_mve arm_mve_types arm_neon arm_sve
    arm_vector_types cpuid mm_malloc riscv_vector wasm_simd128
    """.split()  # noqa: SIM905
)

# No file can be called so on Windows, whatever its ending: aux.c, con.h.
_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE)


def prefix(text: str) -> str:
    """The prefix of all symbols and files of a model called `text`: `text` itself where `is_prefix` holds."""
    name = identifier(text)
    return name if is_prefix(name) else f"m_{_hashed(name, text)}"


def is_prefix(text: str) -> bool:
    """True if symbols and files of a package may begin with `text`.

    It is an identifier, and neither a header of the C library or the compiler (capitals or not: some file
    systems do not tell them apart), nor a device of Windows, nor the beginning of names in `runtime_c/`.
    """
    low = text.lower()
    header = low in _HEADERS or low.endswith("intrin")  # as compilers for x86 call theirs
    taken = header or _DEVICES.fullmatch(text) is not None or f"{low}_".startswith("mmcc_")
    return is_identifier(text) and not taken


def identifier(text: str) -> str:
    """A C identifier for `text`: ASCII, no keyword, and different for different texts.

    Text that is an identifier already stays as it is; otherwise a hash of the text keeps it distinct.
    """
    clean = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:LONGEST]
    if not clean or clean[0].isdigit():
        clean = f"m{clean}"
    if clean == text and clean not in _KEYWORDS and "__" not in clean:
        return clean
    return _hashed(clean, text)


def _hashed(clean: str, text: str) -> str:
    clean = re.sub(r"__+", "_", clean)
    return f"{clean}_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def is_identifier(text: str) -> bool:
    """True if C and C++ take `text` as a name, whatever is put behind it."""
    return (
        re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", text) is not None
        and text not in _KEYWORDS
        and "__" not in text
    )


def escape(text: str, limit: int = 100) -> str:
    """`text` safe in a C comment or string literal, in quotes in CMake, and in HTML; at most `limit` long.

    Printable ASCII without signs that mean something there; others become their code in braces, {2a}. So
    different texts stay different, unless they are cut.
    """
    if sum(len(_sign(c)) for c in text) <= limit:
        return "".join(map(_sign, text))
    room, kept = limit - 3, 0
    while len(_sign(text[kept])) <= room:
        room -= len(_sign(text[kept]))
        kept += 1
    return "".join(map(_sign, whole_words(text[:kept]))) + "..."


def _sign(c: str) -> str:
    return c if " " <= c <= "~" and c not in '\\"`$*?%<>&{' else f"{{{ord(c):x}}}"
