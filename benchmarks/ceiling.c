/* The ceiling: what memory allows for updates of random rows, with no arithmetic worth mentioning.
 *
 * For each id, row[j] = row[j] * a + b over DIM values, while the row `ahead` ids further on is fetched.
 * Compiled with -DDIM=... ; see ceiling.py, which also has the copy for machines without a compiler.
 */

#include <stdint.h>
#include <string.h>

enum { LINE_BYTES = 64 };

#define INLINE static inline __attribute__((always_inline))

/* What is fastest depends on how long rows are, so all are tried: ways of `ceiling.py`, constants once inlined. */
INLINE void fetch(const void *row, int64_t row_bytes, int way)
{
    for (int64_t byte = 0; byte < row_bytes; byte += LINE_BYTES) {
        const char *line = (const char *)row + byte;
        if (way == 0)
            __builtin_prefetch(line, 1, 3);
        else if (way == 1)
            __builtin_prefetch(line, 0, 3);
        else
            __builtin_prefetch(line, 0, 2);
    }
}

INLINE float widen(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

INLINE uint16_t narrow(float wide)
{
    uint32_t bits;
    memcpy(&bits, &wide, sizeof bits);
    return (uint16_t)(bits >> 16); /* cut off: any rounding would cost arithmetic */
}

INLINE float moved_float32(float value, float a, float b) { return value * a + b; }

INLINE uint16_t moved_bfloat16(uint16_t value, float a, float b) { return narrow(widen(value) * a + b); }

#define REWRITE(NAME, TYPE)                                                                                      \
    INLINE void NAME##_by(TYPE *rows, const int32_t *ids, int64_t count, int64_t ahead, int way, float a, float b) \
    {                                                                                                            \
        for (int64_t i = 0; i < ahead && i < count; i++)                                                         \
            fetch(rows + (int64_t)ids[i] * DIM, DIM * sizeof *rows, way);                                        \
        for (int64_t i = 0; i < count; i++) {                                                                    \
            if (i + ahead < count)                                                                               \
                fetch(rows + (int64_t)ids[i + ahead] * DIM, DIM * sizeof *rows, way);                            \
            TYPE *row = rows + (int64_t)ids[i] * DIM;                                                            \
            for (int64_t j = 0; j < DIM; j++)                                                                    \
                row[j] = moved_##NAME(row[j], a, b);                                                             \
        }                                                                                                        \
    }                                                                                                            \
                                                                                                                 \
    void rewrite_##NAME(TYPE *rows, const int32_t *ids, int64_t count, int64_t ahead, int way, float a, float b)  \
    {                                                                                                            \
        if (way == 0)                                                                                            \
            NAME##_by(rows, ids, count, ahead, 0, a, b);                                                         \
        else if (way == 1)                                                                                       \
            NAME##_by(rows, ids, count, ahead, 1, a, b);                                                         \
        else                                                                                                     \
            NAME##_by(rows, ids, count, ahead, 2, a, b);                                                         \
    }

REWRITE(float32, float)
REWRITE(bfloat16, uint16_t)
