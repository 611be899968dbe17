/* SPDX-License-Identifier: Apache-2.0 */
/* mmcount: a QEMU plugin that counts executed instructions exactly, between marker instructions of the program.
 *
 * Plugin interface version 1 (QEMU 4.2 to 8.2). The interface is a stable C ABI, declared here in full, so that
 * neither QEMU's header nor glib is needed:  cc -O2 -shared -fPIC -o mmcount.so mmcount.c
 *
 * Markers (k = 5..15), which do nothing on a real core either:
 *   Thumb      16-bit hint 0xBF00 | k << 4
 *   AArch64    hint #(0x60 + k)
 *   RISC-V     slti x0, x0, 0x700 + k
 * 5 begins the profile, 6 ends it, 7 is a lap; the others are free. Each writes a line "mark k pc P insns N", where N is
 * the number of instructions executed before it.
 *
 * Arguments (addresses in hexadecimal):
 *   out=FILE                    where the lines go; standard error otherwise
 *   prof=FILE                   how often each translated block ran between begin and end, and how often what ran next was
 *                               not what follows it in memory: "address instructions bytes count taken"; the last needs flow=on
 *   flow=on                     watch the way from block to block (slower)
 *   laps=FILE                   the same of each lap of the first profile: "lap", then "accesses misses in-a-row" of code and of data so
 *                               far, and a line for each block that ran, as in prof=FILE. Needs flow=on
 *   mem=on                      count loads and stores as well (slower), and heed the windows below
 *   lo=A hi=B                   report the lowest address in [A, B) that was stored to since the last begin
 *   clo=A chi=B                 count bytes loaded from and stored to [A, B) between begin and end; several times,
 *                               a line "range K loaded N stored M" for each at every end, counted from the first begin
 *   flo=A fhi=B                 a window of flash memory; several times
 *   code=S:W:L data=S:W:L       caches of S sets, W ways and lines of L bytes, least recently used first, for instructions and
 *                               for what is loaded from flash; the latter S = 0: the same cache. Needs flow=on and mem=on. A line
 *                               "cache code accesses A misses M in-a-row R data accesses A misses M in-a-row R" at every end,
 *                               counted from the first begin; "in a row" are misses of the line behind the last that was touched
 *   glo=A ghi=B rlo=C rhi=D     report the first access in [A, B) that is not in [C, D), and count them
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* QEMU's side of the interface. */
typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
typedef struct {
    const char *target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
    struct {
        int smp_vcpus, max_vcpus;
    } system;
} qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { CB_NO_REGS = 0 };
enum { MEM_READ_WRITE = 3 };
enum { INLINE_ADD_U64 = 0 };
typedef void (*insn_callback)(unsigned, void *);
typedef void (*block_callback)(unsigned, void *);
typedef void (*memory_callback)(unsigned, qemu_plugin_meminfo_t, uint64_t, void *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, block_callback, int, void *);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, insn_callback, int, void *);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, memory_callback, int, int, void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);
extern bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
EXPORT int qemu_plugin_version = 1;

typedef struct {
    uint64_t executed, at_begin, profiled, address, taken, lapped, taken_lapped; /* the last two: until this lap */
    uint32_t instructions, bytes;
} block;

typedef struct {
    int kind;
    uint32_t before, in_block; /* instructions of its block before it, and in all */
    uint64_t pc;
} mark;

typedef struct {
    uint64_t lo, hi;
} window;

enum {
    MOST_LINES = 4096,
};

typedef struct {
    uint32_t sets, ways, line;
    uint64_t held[MOST_LINES]; /* by set, the last used first: number of the line, plus 1 */
} cache;

typedef struct {
    cache own, *used;
    uint64_t accesses, misses, in_a_row, last;
} reader;

enum {
    MARK_BEGIN = 5,
    MARK_END = 6,
    MARK_LAP = 7,
    MARK_LAST = 15,
};

static enum {
    THUMB,
    AARCH64,
    RISCV,
} architecture;
static block **blocks;
static size_t block_count, block_room;
static uint64_t instructions;
static uint64_t loads, stores, bytes_loaded, bytes_stored, lowest_store = UINT64_MAX, strays;
static window stack;
static struct {
    window watched, legal; /* an access to the first that is not in the second strays */
} limits[8];
static size_t limit_count;
static struct {
    window counted;
    uint64_t loaded, stored;
} ranges[8];
static size_t range_count;
static window flash[4];
static size_t flash_count;
static reader code, data;
static block *before; /* the block that ran last */
static bool count_memory, watch_flow, profiling;
static FILE *out, *laps;
static const char *profile_name;

static void *allocate(void *old, size_t bytes)
{
    void *memory = realloc(old, bytes);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void print_memory(void)
{
    if (count_memory) {
        fprintf(out, " ld %llu st %llu bld %llu bst %llu low 0x%llx", (unsigned long long)loads,
                (unsigned long long)stores, (unsigned long long)bytes_loaded, (unsigned long long)bytes_stored,
                (unsigned long long)lowest_store);
    }
}

static bool in_flash(uint64_t address)
{
    bool found = false;
    for (size_t i = 0; i < flash_count; ++i) {
        found = found || (address >= flash[i].lo && address < flash[i].hi);
    }
    return found;
}

/* Look for a line, which is then the one used last; false if it was not there. */
static bool held(cache *c, uint64_t line)
{
    uint64_t *set = c->held + line % c->sets * c->ways;
    uint32_t at = 0;
    while (at + 1 < c->ways && set[at] != line + 1) {
        ++at;
    }
    const bool hit = set[at] == line + 1;
    for (; at > 0; --at) {
        set[at] = set[at - 1];
    }
    set[0] = line + 1;
    return hit;
}

static void read_flash(reader *r, uint64_t address, uint32_t bytes)
{
    const uint32_t size = r->used->line;
    for (uint64_t line = address / size; line <= (address + bytes - 1) / size; ++line) {
        ++r->accesses;
        if (!held(r->used, line)) {
            ++r->misses;
            r->in_a_row += line == r->last + 1;
        }
        r->last = line;
    }
}

static void print_caches(void)
{
    if (code.used != NULL) {
        fprintf(out, "cache code accesses %llu misses %llu in-a-row %llu data accesses %llu misses %llu in-a-row %llu\n",
                (unsigned long long)code.accesses, (unsigned long long)code.misses, (unsigned long long)code.in_a_row,
                (unsigned long long)data.accesses, (unsigned long long)data.misses, (unsigned long long)data.in_a_row);
    }
}

static void on_block(unsigned cpu, void *user)
{
    block *b = user;
    (void)cpu;
    if (profiling) {
        if (before != NULL && before->address + before->bytes != b->address) {
            ++before->taken;
        }
        if (code.used != NULL && in_flash(b->address)) {
            read_flash(&code, b->address, b->bytes);
        }
    }
    before = b;
}

static void begin_profile(void)
{
    profiling = true;
    lowest_store = UINT64_MAX;
    for (size_t i = 0; i < block_count; ++i) {
        blocks[i]->at_begin = blocks[i]->lapped = blocks[i]->executed;
    }
}

/* What ran since the lap before; the end of the first profile is the last. */
static void write_lap(bool last)
{
    if (laps == NULL || !profiling) {
        return;
    }
    const reader *const readers[] = {&code, &data};
    fprintf(laps, "lap");
    for (size_t i = 0; i < 2; ++i) {
        fprintf(laps, " %llu %llu %llu", (unsigned long long)readers[i]->accesses, (unsigned long long)readers[i]->misses,
                (unsigned long long)readers[i]->in_a_row);
    }
    fputc('\n', laps);
    for (size_t i = 0; i < block_count; ++i) {
        block *b = blocks[i];
        if (b->executed != b->lapped) {
            fprintf(laps, "%llx %u %u %llu %llu\n", (unsigned long long)b->address, b->instructions, b->bytes,
                    (unsigned long long)(b->executed - b->lapped), (unsigned long long)(b->taken - b->taken_lapped));
        }
        b->lapped = b->executed;
        b->taken_lapped = b->taken;
    }
    if (last) {
        fclose(laps);
        laps = NULL;
    }
}

static void print_ranges(void)
{
    for (size_t i = 0; i < range_count; ++i) {
        fprintf(out, "range %u loaded %llu stored %llu\n", (unsigned)i, (unsigned long long)ranges[i].loaded,
                (unsigned long long)ranges[i].stored);
    }
}

static void end_profile(void)
{
    profiling = false;
    print_ranges();
    print_caches();
    for (size_t i = 0; i < block_count; ++i) {
        blocks[i]->profiled += blocks[i]->executed - blocks[i]->at_begin;
        blocks[i]->at_begin = blocks[i]->executed;
    }
}

static void on_mark(unsigned cpu, void *user)
{
    const mark *m = user;
    (void)cpu;
    if (m->kind == MARK_BEGIN) {
        begin_profile();
    } else if (m->kind == MARK_LAP) {
        write_lap(false);
    } else if (m->kind == MARK_END && profiling) {
        write_lap(true);
        end_profile();
    }
    /* the whole block was added to the count as it was entered: take back what lies behind the marker */
    const unsigned long long executed = instructions - m->in_block + m->before;
    fprintf(out, "mark %d pc 0x%llx insns %llu", m->kind, (unsigned long long)m->pc, executed);
    print_memory();
    fputc('\n', out);
}

static void on_memory(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *user)
{
    const unsigned size = 1U << qemu_plugin_mem_size_shift(info);
    const bool store = qemu_plugin_mem_is_store(info);
    (void)cpu;
    if (store) {
        ++stores;
        bytes_stored += size;
        if (address >= stack.lo && address < stack.hi && address < lowest_store) {
            lowest_store = address;
        }
    } else {
        ++loads;
        bytes_loaded += size;
        if (profiling && data.used != NULL && in_flash(address)) {
            read_flash(&data, address, size);
        }
    }
    for (size_t i = 0; profiling && i < range_count; ++i) {
        if (address >= ranges[i].counted.lo && address < ranges[i].counted.hi) {
            *(store ? &ranges[i].stored : &ranges[i].loaded) += size;
        }
    }
    for (size_t i = 0; i < limit_count; ++i) {
        const window watched = limits[i].watched, legal = limits[i].legal;
        const bool inside = address >= watched.lo && address < watched.hi;
        if (inside && (address < legal.lo || address + size > legal.hi) && strays++ == 0) {
            fprintf(out, "OUT-OF-RAM %s of %u at 0x%llx by pc 0x%llx\n", store ? "store" : "load", size,
                    (unsigned long long)address, (unsigned long long)(uintptr_t)user);
        }
    }
}

/* The number of the marker that these bytes are, or 0. */
static int marker(const uint8_t *bytes, size_t size)
{
    if (architecture == THUMB) {
        const bool hint = size == 2 && bytes[1] == 0xBF && (bytes[0] & 15) == 0;
        return hint && bytes[0] >> 4 >= MARK_BEGIN ? bytes[0] >> 4 : 0;
    }
    if (size != 4) {
        return 0;
    }
    const uint32_t word =
        (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    int kind = 0;
    if (architecture == AARCH64 && (word & 0xFFFFF01F) == 0xD503201F) {
        kind = (int)((word >> 5) & 0x7F) - 0x60;
    } else if (architecture == RISCV && (word & 0x000FFFFF) == 0x2013) {
        kind = (int)(word >> 20) - 0x700;
    }
    return kind >= MARK_BEGIN && kind <= MARK_LAST ? kind : 0;
}

/* How long an instruction is. QEMU may have read more: where the next one is on another page, half of that, too. */
static uint32_t length_of(const uint8_t *bytes)
{
    if (architecture == AARCH64) {
        return 4;
    }
    const bool whole = architecture == THUMB ? bytes[1] >> 3 >= 0x1D : (bytes[0] & 3) == 3;
    return whole ? 4 : 2;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    const size_t n = qemu_plugin_tb_n_insns(tb);
    block *b = allocate(NULL, sizeof *b);
    (void)id;
    *b = (block){.address = qemu_plugin_tb_vaddr(tb), .instructions = (uint32_t)n};
    if (block_count == block_room) {
        block_room = block_room == 0 ? 4096 : block_room * 2;
        blocks = allocate(blocks, block_room * sizeof *blocks); /* NOLINT(bugprone-sizeof-expression): pointers */
    }
    blocks[block_count++] = b;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &b->executed, 1);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &instructions, n);
    if (watch_flow) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, CB_NO_REGS, b);
    }
    for (size_t i = 0; i < n; ++i) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const size_t size = qemu_plugin_insn_size(insn);
        const uint64_t pc = qemu_plugin_insn_vaddr(insn);
        const int kind = marker(qemu_plugin_insn_data(insn), size);
        b->bytes += length_of(qemu_plugin_insn_data(insn));
        if (kind != 0) {
            mark *m = allocate(NULL, sizeof *m);
            *m = (mark){kind, (uint32_t)i, (uint32_t)n, pc};
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, CB_NO_REGS, m);
        }
        if (count_memory) {
            qemu_plugin_register_vcpu_mem_cb(insn, on_memory, CB_NO_REGS, MEM_READ_WRITE, (void *)(uintptr_t)pc);
        }
    }
}

static void write_profile(void)
{
    FILE *file = fopen(profile_name, "w");
    if (file == NULL) {
        fprintf(out, "cannot write %s\n", profile_name);
        return;
    }
    for (size_t i = 0; i < block_count; ++i) {
        const block *b = blocks[i];
        if (b->profiled != 0) {
            fprintf(file, "%llx %u %u %llu %llu\n", (unsigned long long)b->address, b->instructions, b->bytes,
                    (unsigned long long)b->profiled, (unsigned long long)b->taken);
        }
    }
    fclose(file);
}

static void on_exit_of_qemu(qemu_plugin_id_t id, void *user)
{
    (void)id;
    (void)user;
    if (profiling) {
        end_profile();
    }
    fprintf(out, "total insns %llu", (unsigned long long)instructions);
    print_memory();
    fprintf(out, " strays %llu\n", (unsigned long long)strays);
    fflush(out);
    if (profile_name != NULL) {
        write_profile();
    }
}

static void take_cache(reader *r, const char *text)
{
    cache *c = &r->own;
    if (sscanf(text, "%u:%u:%u", &c->sets, &c->ways, &c->line) != 3) {
        abort();
    }
    r->used = c->sets == 0 ? code.used : c;
    if (c->sets * c->ways > MOST_LINES) {
        abort();
    }
}

static void take_argument(const char *name, const char *value)
{
    if (strcmp(name, "glo") == 0 && limit_count < sizeof limits / sizeof *limits) {
        ++limit_count; /* "ghi", "rlo" and "rhi" that follow are of the same */
    }
    if (strcmp(name, "clo") == 0 && range_count < sizeof ranges / sizeof *ranges) {
        ++range_count; /* "chi" that follows is of the same */
    }
    if (strcmp(name, "flo") == 0 && flash_count < sizeof flash / sizeof *flash) {
        ++flash_count; /* "fhi" that follows is of the same */
    }
    const size_t latest = flash_count == 0 ? 0 : flash_count - 1;
    const size_t last = limit_count == 0 ? 0 : limit_count - 1;
    const size_t newest = range_count == 0 ? 0 : range_count - 1;
    const struct {
        const char *name;
        uint64_t *address;
    } addresses[] = {
        {"lo", &stack.lo},
        {"hi", &stack.hi},
        {"clo", &ranges[newest].counted.lo},
        {"chi", &ranges[newest].counted.hi},
        {"flo", &flash[latest].lo},
        {"fhi", &flash[latest].hi},
        {"glo", &limits[last].watched.lo},
        {"ghi", &limits[last].watched.hi},
        {"rlo", &limits[last].legal.lo},
        {"rhi", &limits[last].legal.hi},
    };
    if (strcmp(name, "out") == 0) {
        FILE *file = fopen(value, "w");
        out = file == NULL ? stderr : file;
    } else if (strcmp(name, "laps") == 0) {
        laps = fopen(value, "w");
    } else if (strcmp(name, "mem") == 0) {
        count_memory = strcmp(value, "on") == 0;
    } else if (strcmp(name, "flow") == 0) {
        watch_flow = strcmp(value, "on") == 0;
    } else if (strcmp(name, "code") == 0) {
        take_cache(&code, value);
    } else if (strcmp(name, "data") == 0) {
        take_cache(&data, value);
    } else if (strcmp(name, "prof") == 0) {
        const size_t bytes = strlen(value) + 1;
        profile_name = memcpy(allocate(NULL, bytes), value, bytes);
    }
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; ++i) {
        if (strcmp(name, addresses[i].name) == 0) {
            *addresses[i].address = strtoull(value, NULL, 16);
        }
    }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    out = stderr;
    architecture = THUMB;
    if (strcmp(info->target_name, "aarch64") == 0) {
        architecture = AARCH64;
    } else if (strncmp(info->target_name, "riscv", 5) == 0) {
        architecture = RISCV;
    }
    for (int i = 0; i < argc; ++i) {
        char *equals = strchr(argv[i], '=');
        if (equals != NULL) {
            *equals = '\0';
            take_argument(argv[i], equals + 1);
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_exit_of_qemu, NULL);
    return 0;
}
