/*
 * A double of the Windows C++ ShareMemory library, for tests of both sides at one block.
 *
 * Written from the description of the block in docs/format.md, with a lock and a checksum of its
 * own, so that no mistake is made twice. It behaves as the original does where that is rude:
 * starting to write sets the header anew without the lock, and content that is too long is cut
 * short. Build: x86_64-w64-mingw32-gcc -O2 -municode -o double.exe double.c
 *
 *   double DIALECT start NAME CAPACITY           opens or creates; stays until the input ends
 *   double DIALECT write NAME CAPACITY HEX       writes once; then stays until the input ends
 *   double DIALECT read NAME                     prints the content in hexadecimal
 *   double DIALECT writer NAME CAPACITY COUNT N  writes COUNT values of its own (number N)
 *   double DIALECT reader NAME COUNT             reads COUNT values and checks what they say
 *   double DIALECT restart NAME CAPACITY COUNT   starts COUNT times
 *   double DIALECT hold NAME read|write          takes the lock and keeps it
 *   double DIALECT tear NAME CAPACITY            writes half a value, without starting, and stays
 *   double DIALECT claim NAME CAPACITY [SIZE]    has the header claim a capacity, and a content
 *                                                of SIZE bytes
 *   double DIALECT golden CAPACITY HEX FILE      writes a block's bytes to a file
 *   double DIALECT event set|wait NAME MILLIS    sets or awaits an event of the system
 *
 * DIALECT is seed, untailed or current, or current:TIME for what is before the lock files' names.
 * It says "ready" when it is. Exit status: 0 all well, 1 no such block, 2 usage or system, 3 a
 * mismatch.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <windows.h>

enum { SEED, UNTAILED, CURRENT };

struct header {
    int32_t memory_size;
    int32_t head_size;
    int32_t content_size;
    int32_t tail_size; /* padding, but in SEED */
    uint64_t crc_check;
    int32_t reserved;
    int32_t padding;
};

static int dialect;
static const wchar_t *boot_time = L"0";
static uint64_t table[256];

static void fail(const char *what) {
    fprintf(stderr, "double: %s: error %lu\n", what, GetLastError());
    exit(2);
}

static void make_table(void) {
    for (int index = 0; index < 256; index++) {
        uint64_t crc = (uint64_t)index;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ UINT64_C(0xC96C5795D7870F42) : crc >> 1;
        table[index] = crc;
    }
}

static uint64_t crc64(const unsigned char *bytes, size_t count) {
    uint64_t crc = ~UINT64_C(0);
    for (size_t index = 0; index < count; index++)
        crc = table[(crc ^ bytes[index]) & 0xFF] ^ crc >> 8;
    return ~crc;
}

/* The lock: two files, and who may open them. */

static wchar_t writers_file[1024], readers_file[1024];
static HANDLE writers = INVALID_HANDLE_VALUE, readers = INVALID_HANDLE_VALUE;

static void name_lock(const wchar_t *name) {
    wchar_t folder[512], stem[512];
    if (!GetTempPathW(400, folder))
        fail("temporary path");
    wcscat(folder, L"rwfilelock");
    CreateDirectoryW(folder, NULL);
    if (dialect == CURRENT)
        _snwprintf(stem, 512, L"%ls_SMLF-%ls.mdb", boot_time, name);
    else
        _snwprintf(stem, 512, L"ShareMemoryLockedFile-%ls.mdb", name);
    _snwprintf(writers_file, 1024, L"%ls\\%ls.wlc", folder, stem);
    _snwprintf(readers_file, 1024, L"%ls\\%ls.rlc", folder, stem);
}

static HANDLE take(const wchar_t *file, DWORD access, DWORD share) {
    for (;;) {
        HANDLE handle = CreateFileW(file, access, share, NULL, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
        if (handle != INVALID_HANDLE_VALUE)
            return handle;
        if (GetLastError() != ERROR_SHARING_VIOLATION)
            fail("lock file");
        Sleep(1); /* the original sleeps for 15 */
    }
}

static void lock_read(void) {
    CloseHandle(take(writers_file, GENERIC_READ, FILE_SHARE_READ));
    readers = take(readers_file, GENERIC_READ, FILE_SHARE_READ);
}

static void lock_write(void) {
    writers = take(writers_file, GENERIC_READ | GENERIC_WRITE, 0);
    readers = take(readers_file, GENERIC_READ | GENERIC_WRITE, 0);
}

static void unlock(void) {
    CloseHandle(readers);
    if (writers != INVALID_HANDLE_VALUE)
        CloseHandle(writers);
    readers = writers = INVALID_HANDLE_VALUE;
}

/* The block. */

static HANDLE memory;
static struct header *block;
static int32_t capacity;

static unsigned char *content(void) { return (unsigned char *)block + sizeof *block; }

static int32_t overhead(void) { return dialect == SEED ? 33 : 32; }

static void name_memory(const wchar_t *name, wchar_t *full) {
    _snwprintf(full, 512, dialect == CURRENT ? L"SMM-%ls" : L"ShareMemoryMap-%ls", name);
}

static void write_header(struct header *header) {
    header->memory_size = (int32_t)((uint32_t)capacity + (uint32_t)overhead());
    header->head_size = 32;
    header->content_size = 0;
    if (dialect == SEED)
        header->tail_size = 1;
    header->crc_check = 0;
}

/* What every writer of the original does first, without the lock. */
static void start(const wchar_t *name) {
    wchar_t full[512];
    name_memory(name, full);
    memory = CreateFileMappingW(INVALID_HANDLE_VALUE, NULL, PAGE_READWRITE, 0, capacity + overhead(), full);
    if (!memory)
        fail("memory");
    block = MapViewOfFile(memory, FILE_MAP_ALL_ACCESS, 0, 0, 0);
    if (!block)
        fail("view");
    write_header(block);
}

static void stop(void) {
    UnmapViewOfFile(block);
    CloseHandle(memory);
}

static void open_block(const wchar_t *name, DWORD access) {
    wchar_t full[512];
    name_memory(name, full);
    memory = OpenFileMappingW(access, FALSE, full);
    if (!memory)
        exit(1);
    block = MapViewOfFile(memory, access, 0, 0, 0);
    if (!block)
        fail("view");
}

static void put(struct header *header, const unsigned char *bytes, int32_t count) {
    unsigned char *to = (unsigned char *)header + sizeof *header;
    if (count > capacity)
        count = capacity;
    memcpy(to, bytes, count);
    if (dialect == SEED)
        to[count] = 0;
    header->content_size = count;
    header->crc_check = crc64(bytes, count);
}

/* Values that say what they are: a checksum over the rest is at their end. */

static uint64_t random_state;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1;
    return (uint32_t)(random_state >> 33) % limit;
}

static int32_t make_value(unsigned char *bytes) {
    int32_t count = (int32_t)random_below(capacity + 1);
    if (random_below(8) == 0)
        count = random_below(2) ? capacity : 0;
    if (count < 8)
        return 0;
    for (int32_t index = 0; index < count - 8; index++)
        bytes[index] = (unsigned char)random_below(256);
    uint64_t crc = crc64(bytes, count - 8);
    memcpy(bytes + count - 8, &crc, 8);
    return count;
}

static int is_value(const unsigned char *bytes, int32_t count) {
    uint64_t crc;
    if (count == 0)
        return 1;
    if (count < 8)
        return 0;
    memcpy(&crc, bytes + count - 8, 8);
    return crc == crc64(bytes, count - 8);
}

static unsigned char *allocate(size_t count) {
    unsigned char *bytes = calloc(1, count);
    if (!bytes)
        fail("memory");
    return bytes;
}

static int32_t from_hex(const wchar_t *hex, unsigned char **bytes) {
    int32_t count = (int32_t)(wcslen(hex) / 2);
    *bytes = allocate(count + 1);
    for (int32_t index = 0; index < count; index++) {
        unsigned byte = 0;
        swscanf(hex + 2 * index, L"%2x", &byte);
        (*bytes)[index] = (unsigned char)byte;
    }
    return count;
}

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

static void stay(void) {
    ready();
    while (getchar() != EOF)
        ;
}

static int golden(const wchar_t *hex, const wchar_t *path) {
    unsigned char *bytes;
    int32_t count = from_hex(hex, &bytes);
    size_t size = capacity + overhead();
    struct header *header = (struct header *)allocate(size + 1);
    write_header(header);
    put(header, bytes, count);
    FILE *file = _wfopen(path, L"wb");
    if (!file || fwrite(header, 1, size, file) != size || fclose(file))
        fail("golden file");
    return 0;
}

static int read_once(void) {
    lock_read();
    int32_t count = block->content_size;
    unsigned char *copy = allocate((size_t)count + 2);
    memcpy(copy, content(), count);
    uint64_t crc = block->crc_check;
    unlock();
    for (int32_t index = 0; index < count; index++)
        printf("%02x", copy[index]);
    puts("");
    return crc == crc64(copy, count) ? 0 : 3;
}

static int read_many(long count) {
    unsigned char *copy = allocate(1 << 20);
    long mismatches = 0;
    for (long index = 0; index < count; index++) {
        lock_read();
        int32_t size = block->content_size;
        memcpy(copy, content(), size);
        uint64_t crc = block->crc_check;
        unlock();
        if (crc != crc64(copy, size) || !is_value(copy, size))
            mismatches++;
    }
    printf("%ld mismatches\n", mismatches);
    return mismatches ? 3 : 0;
}

static int write_many(long count) {
    unsigned char *bytes = allocate(capacity + 1);
    for (long index = 0; index < count; index++) {
        int32_t size = make_value(bytes);
        lock_write();
        put(block, bytes, size);
        unlock();
    }
    puts("0 mismatches");
    return 0;
}

static int event(const wchar_t *what, const wchar_t *name, DWORD millis) {
    HANDLE handle = OpenEventW(EVENT_MODIFY_STATE | SYNCHRONIZE, FALSE, name);
    if (!handle)
        return 1;
    if (!wcscmp(what, L"set"))
        return SetEvent(handle) ? 0 : 2;
    return WaitForSingleObject(handle, millis) == WAIT_OBJECT_0 ? 0 : 3;
}

int wmain(int count, wchar_t **words) {
    make_table();
    if (count < 4)
        return 2;
    const wchar_t *command = words[2], *name = words[3];
    if (!wcscmp(words[1], L"seed"))
        dialect = SEED;
    else if (!wcscmp(words[1], L"untailed"))
        dialect = UNTAILED;
    else if (!wcsncmp(words[1], L"current", 7))
        dialect = CURRENT;
    else
        return 2;
    if (dialect == CURRENT && words[1][7] == L':')
        boot_time = words[1] + 8;
#define IS(what, words_needed) (!wcscmp(command, what) && count >= 3 + (words_needed))
    if (IS(L"golden", 3)) {
        capacity = _wtoi(words[3]);
        return golden(words[4], words[5]);
    }
    if (IS(L"event", 3))
        return event(words[3], words[4], _wtoi(words[5]));
    name_lock(name);
    if (IS(L"hold", 2)) {
        if (!wcscmp(words[4], L"read"))
            lock_read();
        else
            lock_write();
        stay();
        return 0;
    }
    if (IS(L"read", 1)) {
        open_block(name, FILE_MAP_READ);
        return read_once();
    }
    if (IS(L"reader", 2)) {
        open_block(name, FILE_MAP_READ);
        ready();
        return read_many(_wtol(words[4]));
    }
    if (count < 5)
        return 2;
    capacity = _wtoi(words[4]);
    if (IS(L"restart", 3)) {
        ready();
        for (long left = _wtol(words[5]); left > 0; left--) {
            start(name);
            stop();
        }
        return 0;
    }
    if (IS(L"claim", 2)) {
        open_block(name, FILE_MAP_ALL_ACCESS);
        write_header(block);
        if (count > 5)
            block->content_size = _wtoi(words[5]);
        stay();
        return 0;
    }
    if (IS(L"tear", 2)) {
        open_block(name, FILE_MAP_ALL_ACCESS);
        lock_write();
        memset(content(), 0x55, capacity / 2);
        stay();
        return 0;
    }
    start(name);
    if (IS(L"writer", 4)) {
        random_state = _wtol(words[6]);
        ready();
        return write_many(_wtol(words[5]));
    }
    if (IS(L"write", 3)) {
        unsigned char *bytes;
        int32_t size = from_hex(words[5], &bytes);
        lock_write();
        put(block, bytes, size);
        unlock();
        stay();
        return 0;
    }
    if (IS(L"start", 2)) {
        stay();
        return 0;
    }
    return 2;
}
