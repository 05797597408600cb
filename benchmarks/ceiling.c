/* The ceiling: what memory allows for updates of random rows, with no arithmetic worth mentioning.
 *
 * For each id, row[j] = row[j] * a + b over DIM values, while the rows `ahead` ids further on are fetched.
 * Compiled with -DDIM=... ; see ceiling.py, which also has the copy for machines without a compiler.
 */

#include <stdint.h>
#include <string.h>

enum { LINE_BYTES = 64 };

static inline __attribute__((always_inline)) void fetch(const void *row, int64_t row_bytes)
{
    for (int64_t byte = 0; byte < row_bytes; byte += LINE_BYTES)
        __builtin_prefetch((const char *)row + byte, 1, 3);
}

static inline float widen(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static inline uint16_t narrow(float wide)
{
    uint32_t bits;
    memcpy(&bits, &wide, sizeof bits);
    return (uint16_t)(bits >> 16); /* cut off: any rounding would cost arithmetic */
}

void rewrite_float32(float *rows, const int32_t *ids, int64_t count, int64_t ahead, float a, float b)
{
    for (int64_t i = 0; i < ahead && i < count; i++)
        fetch(rows + (int64_t)ids[i] * DIM, DIM * sizeof *rows);
    for (int64_t i = 0; i < count; i++) {
        if (i + ahead < count)
            fetch(rows + (int64_t)ids[i + ahead] * DIM, DIM * sizeof *rows);
        float *row = rows + (int64_t)ids[i] * DIM;
        for (int64_t j = 0; j < DIM; j++)
            row[j] = row[j] * a + b;
    }
}

void rewrite_bfloat16(uint16_t *rows, const int32_t *ids, int64_t count, int64_t ahead, float a, float b)
{
    for (int64_t i = 0; i < ahead && i < count; i++)
        fetch(rows + (int64_t)ids[i] * DIM, DIM * sizeof *rows);
    for (int64_t i = 0; i < count; i++) {
        if (i + ahead < count)
            fetch(rows + (int64_t)ids[i + ahead] * DIM, DIM * sizeof *rows);
        uint16_t *row = rows + (int64_t)ids[i] * DIM;
        for (int64_t j = 0; j < DIM; j++)
            row[j] = narrow(widen(row[j]) * a + b);
    }
}
