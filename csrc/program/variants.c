/* variants.c: all compiled variants, and the choice among them at import. */
#include "../base/variants.h"

extern const struct cnn_variant cnn_variant_f32_base, cnn_variant_f64_base;
#if defined(__x86_64__) && !defined(CNN_WITHOUT_avx2)
extern const struct cnn_variant cnn_variant_f32_avx2, cnn_variant_f64_avx2;
#define AVX2 {&cnn_variant_f32_avx2, &cnn_variant_f64_avx2}
#else
#define AVX2 {NULL, NULL}
#endif
#if defined(__x86_64__) && !defined(CNN_WITHOUT_avx512)
extern const struct cnn_variant cnn_variant_f32_avx512, cnn_variant_f64_avx512;
#define AVX512 {&cnn_variant_f32_avx512, &cnn_variant_f64_avx512}
#else
#define AVX512 {NULL, NULL}
#endif
static const struct cnn_variant *const compiled[CNN_ISA_COUNT][2] = {{&cnn_variant_f32_base, &cnn_variant_f64_base}, AVX2, AVX512};

static int chosen = -1;

int cnn_compiled(enum cnn_isa isa) { return compiled[isa][0] != NULL; }
int cnn_has(enum cnn_isa isa) { return cnn_compiled(isa) && isa <= cnn_machine()->isa; }

enum cnn_isa cnn_chosen(void)
{
    int isa = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    if (isa < 0)
        for (isa = CNN_ISA_COUNT - 1; isa > 0 && !cnn_has((enum cnn_isa)isa);)
            isa--;
    return (enum cnn_isa)isa;
}

int cnn_choose(enum cnn_isa isa)
{
    if (!cnn_has(isa))
        return 0;
    __atomic_store_n(&chosen, (int)isa, __ATOMIC_RELAXED);
    return 1;
}

const struct cnn_variant *cnn_variant(enum cnn_dtype dtype) { return compiled[cnn_chosen()][dtype]; }

const char *cnn_entry_name(int entry)
{
    static const char *const names[] = {
#define CNN_ENTRY(name, problem, arrays) #name,
#include "../ops.def"
#undef CNN_ENTRY
    };
    return names[entry];
}
