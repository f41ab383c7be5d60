/* tile_avx512.h: the bodies of tile.c for many rows of AVX-512, written out in assembly, because no compiler leaves the sums of 14 rows
 * in their 28 registers: each of those tried moves them about, and keeps them in memory around the loops.
 *
 * The same sums, term for term, as tile_body of tile.c computes, where all columns of C exist. Cells have more pointers than there are registers: each is
 * read again for every term, and the loads, no longer the sums, are what takes longest.
 *
 *     zmm0 .. zmm27    sums: row i in 2 i and 2 i + 1
 *     zmm28, zmm29     a term of B;  zmm30, zmm31: of A
 *     rdi              the tile
 *     rsi, r8 .. r11   rows 0, 3, 6, 9 and 12 of A, at the term at work (columns: rsi, the term; cells: rsi, the term's offset)
 *     rax              bytes from one row of A to the next (columns: from one term to the next)
 *     rdx              B
 *     rcx              counts
 *     rbx              bytes to what is fetched of A
 *     r12              anything
 *     r13, r14         what comes next: fetched so far, and due
 *     r15              the row of C that is fetched next (columns: bytes that come next a term)
 *     rbp              lines of A left in this part */
#if defined(__AVX512F__) && defined(__x86_64__) && defined(__ELF__) && defined(__LP64__) && !defined(CNN_WITHOUT_ASSEMBLY)
#define TILES_IN_ASSEMBLY 1

#if CNN_DOUBLE
#define SUFFIX "d"
#define SIZE "8"
#define SHIFT "3"
#define LINE_TERMS "8"
#define LINE_SHIFT "3"
#define LONG_TERMS "128"
#else
#define SUFFIX "s"
#define SIZE "4"
#define SHIFT "2"
#define LINE_TERMS "16"
#define LINE_SHIFT "4"
#define LONG_TERMS "256"
#endif

/* Where the members of struct tile are. */
#define PARTS "0(%rdi)"
#define DEPTH "8(%rdi)"
#define OFFSET "16(%rdi)"
#define STEP "24(%rdi)"
#define A "32(%rdi)"
#define A_APART "144(%rdi)"
#define A_AHEAD "152(%rdi)"
#define NEXT "160(%rdi)"
#define NEXT_STEP "168(%rdi)"
#define B "176(%rdi)"
#define C "184(%rdi)"
#define C_APART "296(%rdi)"
#define JOIN "312(%rdi)"
#define BIAS "320(%rdi)"
#define ROW_BIAS "328(%rdi)"
#define ACTIVATION "336(%rdi)"
#define HAS(member, place) _Static_assert(offsetof(struct tile, member) == place, "tile_avx512.h knows another struct tile")
HAS(parts, 0); HAS(depth, 8); HAS(offset, 16); HAS(step, 24); HAS(a, 32); HAS(a_apart, 144); HAS(ahead, 152); HAS(next, 160); HAS(next_step, 168);
HAS(b, 176); HAS(c, 184); HAS(c_apart, 296); HAS(join, 312); HAS(bias, 320); HAS(row_bias, 328); HAS(activation, 336);
_Static_assert(CONTINUE == 1 && ADD == 2 && CNN_RELU == 1 && LONG == 16 * LINE && NEAR == 2 * LINE && AHEAD == 16, "tile_avx512.h has these numbers too");

/* Below the stack pointer a function that calls no other may keep what it likes. */
#define OFFSET_AT "-8(%rsp)"     /* the part's offset */
#define PARTS_LEFT "-16(%rsp)"
#define C_BYTES "-24(%rsp)"      /* from one row of C to the next */
#define C_LEFT "-32(%rsp)"       /* rows of C to fetch */
#define NEAR_BYTES "-40(%rsp)"   /* to what is fetched of A, but by a part's last lines */
#define IS_LONG "-48(%rsp)"

#define DO(text) text "\n\t"
#define EACH_8(M, x) M(0, x) M(1, x) M(2, x) M(3, x) M(4, x) M(5, x) M(6, x) M(7, x)
#define EACH_9(M, x) EACH_8(M, x) M(8, x)
#define EACH_10(M, x) EACH_9(M, x) M(9, x)
#define EACH_11(M, x) EACH_10(M, x) M(10, x)
#define EACH_12(M, x) EACH_11(M, x) M(11, x)
#define EACH_13(M, x) EACH_12(M, x) M(12, x)
#define EACH_14(M, x) EACH_13(M, x) M(13, x)

/* By row: its two sums, a register for its term, its place behind one of five pointers (plus x bytes), and behind one pointer if rows are neighbours. */
#define LOW_0 "%zmm0"
#define LOW_1 "%zmm2"
#define LOW_2 "%zmm4"
#define LOW_3 "%zmm6"
#define LOW_4 "%zmm8"
#define LOW_5 "%zmm10"
#define LOW_6 "%zmm12"
#define LOW_7 "%zmm14"
#define LOW_8 "%zmm16"
#define LOW_9 "%zmm18"
#define LOW_10 "%zmm20"
#define LOW_11 "%zmm22"
#define LOW_12 "%zmm24"
#define LOW_13 "%zmm26"
#define HIGH_0 "%zmm1"
#define HIGH_1 "%zmm3"
#define HIGH_2 "%zmm5"
#define HIGH_3 "%zmm7"
#define HIGH_4 "%zmm9"
#define HIGH_5 "%zmm11"
#define HIGH_6 "%zmm13"
#define HIGH_7 "%zmm15"
#define HIGH_8 "%zmm17"
#define HIGH_9 "%zmm19"
#define HIGH_10 "%zmm21"
#define HIGH_11 "%zmm23"
#define HIGH_12 "%zmm25"
#define HIGH_13 "%zmm27"
#define TURN_0 "%zmm30"
#define TURN_1 "%zmm31"
#define TURN_2 TURN_0
#define TURN_3 TURN_1
#define TURN_4 TURN_0
#define TURN_5 TURN_1
#define TURN_6 TURN_0
#define TURN_7 TURN_1
#define TURN_8 TURN_0
#define TURN_9 TURN_1
#define TURN_10 TURN_0
#define TURN_11 TURN_1
#define TURN_12 TURN_0
#define TURN_13 TURN_1
#define ROW_0 "(%rsi)"
#define ROW_1 "(%rsi,%rax)"
#define ROW_2 "(%rsi,%rax,2)"
#define ROW_3 "(%r8)"
#define ROW_4 "(%r8,%rax)"
#define ROW_5 "(%r8,%rax,2)"
#define ROW_6 "(%r9)"
#define ROW_7 "(%r9,%rax)"
#define ROW_8 "(%r9,%rax,2)"
#define ROW_9 "(%r10)"
#define ROW_10 "(%r10,%rax)"
#define ROW_11 "(%r10,%rax,2)"
#define ROW_12 "(%r11)"
#define ROW_13 "(%r11,%rax)"

#define ZERO(i, x) DO("vpxord " LOW_##i "," LOW_##i "," LOW_##i) DO("vpxord " HIGH_##i "," HIGH_##i "," HIGH_##i)
/* Rows of C are in r12 one after another, `apart` or by their `own` pointers. */
#define FIRST_apart DO("mov " C ", %r12") DO("mov " C_APART ", %rcx") DO("shl $" SHIFT ", %rcx")
#define BEGIN_apart(i)
#define END_apart DO("add %rcx, %r12")
#define FIRST_own
#define BEGIN_own(i) DO("mov 8*" #i "+" C ", %r12")
#define END_own
#define LOAD(i, x) BEGIN_##x(i) DO("vmovups (%r12), " LOW_##i) DO("vmovups 64(%r12), " HIGH_##i) END_##x
#define PLUS_C(i, x) BEGIN_##x(i) DO("vaddp" SUFFIX " (%r12), " LOW_##i ", " LOW_##i) DO("vaddp" SUFFIX " 64(%r12), " HIGH_##i ", " HIGH_##i) END_##x
#define STORE(i, x) BEGIN_##x(i) DO("vmovups " LOW_##i ", (%r12)") DO("vmovups " HIGH_##i ", 64(%r12)") END_##x
#define FETCH_C(i, x) BEGIN_##x(i) DO("prefetcht0 (%r12)") DO("prefetcht0 64(%r12)") END_##x
#define PLUS_BIAS(i, x) DO("vaddp" SUFFIX " %zmm28, " LOW_##i ", " LOW_##i) DO("vaddp" SUFFIX " %zmm29, " HIGH_##i ", " HIGH_##i)
#define PLUS_ROW_BIAS(i, x)                                                            \
    DO("vbroadcasts" SUFFIX " " #i "*" SIZE "(%r12), " TURN_##i)                         \
    DO("vaddp" SUFFIX " " TURN_##i ", " LOW_##i ", " LOW_##i) DO("vaddp" SUFFIX " " TURN_##i ", " HIGH_##i ", " HIGH_##i)
/* The second operand where one is NaN or both are zeros: the sum. */
#define RELU(i, x) DO("vmaxp" SUFFIX " " LOW_##i ", %zmm28, " LOW_##i) DO("vmaxp" SUFFIX " " HIGH_##i ", %zmm28, " HIGH_##i)

#define MULTIPLY_ADD(i) \
    DO("vfmadd231p" SUFFIX " " TURN_##i ", %zmm28, " LOW_##i) DO("vfmadd231p" SUFFIX " " TURN_##i ", %zmm29, " HIGH_##i)
#define ROW_TERM(i, k) DO("vbroadcasts" SUFFIX " " k "*" SIZE ROW_##i ", " TURN_##i) MULTIPLY_ADD(i)
#define CELL_TERM(i, k) DO("mov 8*" #i "+" A ", %r12") DO("vbroadcasts" SUFFIX " " k "*" SIZE "(%r12,%rsi), " TURN_##i) MULTIPLY_ADD(i)
#define FETCH_CELL(i, x) DO("mov 8*" #i "+" A ", %r12") DO("prefetcht0 (%r12,%r8)")
#define COLUMN_TERM(i, at) DO("vbroadcasts" SUFFIX " " #i "*" SIZE at ", " TURN_##i) MULTIPLY_ADD(i)
/* Term k of B, with its lines 16 ahead. */
#define LOAD_B(k)                                                                              \
    DO("vmovups " k "*128(%rdx), %zmm28") DO("vmovups " k "*128+64(%rdx), %zmm29")               \
    DO("prefetcht0 " k "*128+1024(%rdx)") DO("prefetcht0 " k "*128+64+1024(%rdx)")
#define FETCH_ROWS_A                                                                                       \
    DO("lea (%rsi,%rbx), %r12") DO("prefetcht0 (%r12)") DO("prefetcht0 (%r12,%rax)") DO("prefetcht0 (%r12,%rax,2)") \
    DO("lea (%r8,%rbx), %r12") DO("prefetcht0 (%r12)") DO("prefetcht0 (%r12,%rax)") DO("prefetcht0 (%r12,%rax,2)")  \
    DO("lea (%r9,%rbx), %r12") DO("prefetcht0 (%r12)") DO("prefetcht0 (%r12,%rax)")
#define FETCH_8(x)
#define FETCH_9(x) DO("prefetcht0 (%r12,%rax,2)")
#define FETCH_10(x) FETCH_9(x) DO("lea (%r10,%rbx), %r12") DO("prefetcht0 (%r12)")
#define FETCH_11(x) FETCH_10(x) DO("prefetcht0 (%r12,%rax)")
#define FETCH_12(x) FETCH_11(x) DO("prefetcht0 (%r12,%rax,2)")
#define FETCH_13(x) FETCH_12(x) DO("lea (%r11,%rbx), %r12") DO("prefetcht0 (%r12)")
#define FETCH_14(x) FETCH_13(x) DO("prefetcht0 (%r12,%rax)")
#define ADVANCE_ROWS(terms) \
    DO("add $" terms "*" SIZE ", %rsi") DO("add $" terms "*" SIZE ", %r8") DO("add $" terms "*" SIZE ", %r9") DO("add $" terms "*" SIZE ", %r10") \
    DO("add $" terms "*" SIZE ", %r11") DO("add $" terms "*128, %rdx")

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define BEGIN(name)                                                                                                        \
    DO(".pushsection .text") DO(".p2align 6") DO(".type " TEXT(FN(name)) ", @function") TEXT(FN(name)) ":\n\t" DO(".cfi_startproc") \
    DO("push %rbx") DO(".cfi_def_cfa_offset 16") DO(".cfi_offset %rbx, -16") DO("push %rbp") DO(".cfi_def_cfa_offset 24") DO(".cfi_offset %rbp, -24") \
    DO("push %r12") DO(".cfi_def_cfa_offset 32") DO(".cfi_offset %r12, -32") DO("push %r13") DO(".cfi_def_cfa_offset 40") DO(".cfi_offset %r13, -40") \
    DO("push %r14") DO(".cfi_def_cfa_offset 48") DO(".cfi_offset %r14, -48") DO("push %r15") DO(".cfi_def_cfa_offset 56") DO(".cfi_offset %r15, -56")
#define END(name)                                                                                                          \
    DO("pop %r15") DO("pop %r14") DO("pop %r13") DO("pop %r12") DO("pop %rbp") DO("pop %rbx") DO("vzeroupper") DO("ret")       \
    DO(".cfi_endproc") DO(".size " TEXT(FN(name)) ", .-" TEXT(FN(name))) DO(".popsection")

/* The sums to C, or what is there to the sums; lines of C are fetched. */
#define FETCH(rows, c) FIRST_##c EACH_##rows(FETCH_C, c)
#define START(rows, c) FIRST_##c EACH_##rows(LOAD, c)
#define FINISH(rows, c)                                                                                    \
    DO("cmpl $2, " JOIN) DO("jne 71f") FIRST_##c EACH_##rows(PLUS_C, c) "71:\n\t"                              \
    DO("mov " BIAS ", %r12") DO("test %r12, %r12") DO("je 72f")                                                \
    DO("vmovups (%r12), %zmm28") DO("vmovups 64(%r12), %zmm29") EACH_##rows(PLUS_BIAS, ) "72:\n\t"             \
    DO("mov " ROW_BIAS ", %r12") DO("test %r12, %r12") DO("je 73f") EACH_##rows(PLUS_ROW_BIAS, ) "73:\n\t"     \
    DO("cmpl $1, " ACTIVATION) DO("jne 74f") DO("vpxord %zmm28, %zmm28, %zmm28") EACH_##rows(RELU, ) "74:\n\t" \
    FIRST_##c EACH_##rows(STORE, c)

#define ROWS_IN_ASSEMBLY(rows)                                                                                             \
    __asm__(BEGIN(assembled_rows_##rows)                                                                                      \
    DO("mov " A_APART ", %rax") DO("shl $" SHIFT ", %rax") DO("mov " B ", %rdx") DO("mov " NEXT ", %r13") DO("mov %r13, %r14")      \
    DO("mov " PARTS ", %rcx") DO("mov %rcx, " PARTS_LEFT) DO("movq $0, " OFFSET_AT)                                                 \
    /* How far ahead A is fetched. */                                                                                               \
    DO("mov " A_AHEAD ", %rbx") DO("movq $0, " IS_LONG) DO("mov " DEPTH ", %rbp") DO("mov %rbp, %r12") DO("imul %rcx, %r12")         \
    DO("cmp $" LONG_TERMS ", %r12") DO("jl 11f") DO("cmp $4*" LINE_TERMS ", %rbp") DO("jl 11f")                                       \
    DO("movq $1, " IS_LONG) DO("mov $2*" LINE_TERMS ", %ebx") "11:\n\t" DO("shl $" SHIFT ", %rbx") DO("mov %rbx, " NEAR_BYTES)        \
    /* C is read first; or fetched, two rows with each line of A, or at once if there are too few of those. */                     \
    DO("mov " C ", %r15") DO("mov " C_APART ", %r12") DO("shl $" SHIFT ", %r12") DO("mov %r12, " C_BYTES) DO("movq $0, " C_LEFT)     \
    DO("cmpl $1, " JOIN) DO("je 13f")                                                                                               \
    DO("shr $" LINE_SHIFT ", %rbp") DO("imul %rcx, %rbp") DO("cmp $(" #rows "+1)/2, %rbp") DO("jl 12f") DO("movq $(" #rows "+1)/2, " C_LEFT) \
    DO("jmp 14f") "12:\n\t" FETCH(rows, apart) "14:\n\t" EACH_##rows(ZERO, ) DO("jmp 15f")                               \
    "13:\n\t" START(rows, apart) "15:\n\t"                                                                                 \
    DO("cmpq $0, " PARTS_LEFT) DO("jle 29f")                                                                                        \
    /* A part. */                                                                                                                   \
    "20:\n\t" DO("mov " OFFSET ", %r12") DO("mov " OFFSET_AT ", %rcx") DO("mov (%r12,%rcx), %rsi") DO("shl $" SHIFT ", %rsi") DO("add " A ", %rsi") \
    DO("lea (%rax,%rax,2), %r12") DO("lea (%rsi,%r12), %r8") DO("lea (%r8,%r12), %r9") DO("lea (%r9,%r12), %r10") DO("lea (%r10,%r12), %r11")      \
    DO("mov " NEAR_BYTES ", %rbx") DO("mov " DEPTH ", %rbp") DO("shr $" LINE_SHIFT ", %rbp") DO("je 27f")                            \
    /* A line of A. The last two of a part of a long sum are where the next part, or tile, begins. */                              \
    "21:\n\t" DO("cmp $2, %rbp") DO("jne 23f") DO("cmpq $0, " IS_LONG) DO("je 23f")                                                  \
    DO("mov " OFFSET ", %r12") DO("mov " OFFSET_AT ", %rcx") DO("cmpq $1, " PARTS_LEFT) DO("jne 22f")                                \
    DO("mov (%r12), %rbx") DO("add " A_AHEAD ", %rbx") DO("jmp 24f") "22:\n\t" DO("mov 8(%r12,%rcx), %rbx") "24:\n\t"                 \
    DO("sub (%r12,%rcx), %rbx") DO("sub " DEPTH ", %rbx") DO("add $4*" LINE_TERMS ", %rbx") DO("shl $" SHIFT ", %rbx") "23:\n\t"      \
    FETCH_ROWS_A FETCH_##rows()                                                                                                     \
    DO("cmpq $0, " C_LEFT) DO("je 25f") DO("decq " C_LEFT) DO("prefetcht0 (%r15)") DO("prefetcht0 64(%r15)") DO("add " C_BYTES ", %r15") \
    DO("prefetcht0 (%r15)") DO("prefetcht0 64(%r15)") DO("add " C_BYTES ", %r15") "25:\n\t"                                          \
    DO("mov " NEXT_STEP ", %rcx") DO("shl $" LINE_SHIFT ", %rcx") DO("add %rcx, %r14") DO("jmp 31f")                                 \
    "30:\n\t" DO("prefetcht1 (%r13)") DO("add $64, %r13") "31:\n\t" DO("cmp %r14, %r13") DO("jb 30b")                                \
    DO("mov $" LINE_TERMS "/4, %ecx") DO(".p2align 5")                                                                              \
    "26:\n\t" LOAD_B("0") EACH_##rows(ROW_TERM, "0") LOAD_B("1") EACH_##rows(ROW_TERM, "1") LOAD_B("2") EACH_##rows(ROW_TERM, "2")    \
    LOAD_B("3") EACH_##rows(ROW_TERM, "3") ADVANCE_ROWS("4") DO("dec %ecx") DO("jnz 26b")                                            \
    DO("dec %rbp") DO("jnz 21b")                                                                                                    \
    "27:\n\t" DO("mov " DEPTH ", %rcx") DO("and $" LINE_TERMS "-1, %ecx") DO("jz 28f") DO(".p2align 5")                               \
    "32:\n\t" LOAD_B("0") EACH_##rows(ROW_TERM, "0") ADVANCE_ROWS("1") DO("dec %ecx") DO("jnz 32b")                                  \
    "28:\n\t" DO("addq $8, " OFFSET_AT) DO("decq " PARTS_LEFT) DO("jnz 20b") "29:\n\t"                                               \
    FINISH(rows, apart) END(assembled_rows_##rows));                                                                                       \
    __attribute__((visibility("hidden"))) void FN(assembled_rows_##rows)(const struct tile *t);

#define CELLS_IN_ASSEMBLY(rows)                                                                                            \
    __asm__(BEGIN(assembled_cells_##rows)                                                                                     \
    DO("mov " B ", %rdx") DO("mov " PARTS ", %r13") DO("mov " OFFSET ", %r14") DO("mov " A_AHEAD ", %rbx") DO("shl $" SHIFT ", %rbx") \
    DO("cmpl $1, " JOIN) DO("je 13f") FETCH(rows, own) EACH_##rows(ZERO, ) DO("jmp 15f") "13:\n\t" START(rows, own) "15:\n\t"       \
    DO("test %r13, %r13") DO("jle 29f")                                                                                             \
    "20:\n\t" DO("mov (%r14), %rsi") DO("shl $" SHIFT ", %rsi") DO("mov " DEPTH ", %rbp") DO("shr $" LINE_SHIFT ", %rbp") DO("je 27f") \
    "21:\n\t" DO("lea (%rsi,%rbx), %r8") EACH_##rows(FETCH_CELL, ) DO("mov $" LINE_TERMS "/4, %ecx") DO(".p2align 5")                 \
    "26:\n\t" LOAD_B("0") EACH_##rows(CELL_TERM, "0") LOAD_B("1") EACH_##rows(CELL_TERM, "1") LOAD_B("2") EACH_##rows(CELL_TERM, "2") \
    LOAD_B("3") EACH_##rows(CELL_TERM, "3") DO("add $4*" SIZE ", %rsi") DO("add $4*128, %rdx") DO("dec %ecx") DO("jnz 26b")             \
    DO("dec %rbp") DO("jnz 21b")                                                                                                    \
    "27:\n\t" DO("mov " DEPTH ", %rcx") DO("and $" LINE_TERMS "-1, %ecx") DO("jz 28f")                                               \
    "32:\n\t" LOAD_B("0") EACH_##rows(CELL_TERM, "0") DO("add $" SIZE ", %rsi") DO("add $128, %rdx") DO("dec %ecx") DO("jnz 32b")     \
    "28:\n\t" DO("add $8, %r14") DO("dec %r13") DO("jnz 20b") "29:\n\t"                                                              \
    FINISH(rows, own) END(assembled_cells_##rows));                                                                                 \
    __attribute__((visibility("hidden"))) void FN(assembled_cells_##rows)(const struct tile *t);

/* Some terms of columns; x: with what comes next, or nothing. */
#define FETCH_NEXT DO("prefetcht1 (%r13)") DO("add %r15, %r13")
#define FETCH_NONE
#define COLUMNS_IN_ASSEMBLY(rows, name, x)                                                                                 \
    __asm__(BEGIN(name)                                                                                                       \
    DO("mov " STEP ", %rax") DO("shl $" SHIFT ", %rax") DO("mov " B ", %rdx") DO("mov " NEXT ", %r13") DO("mov " NEXT_STEP ", %r15") \
    DO("mov " PARTS ", %rbp") DO("mov " OFFSET ", %r14") DO("lea (%rax,%rax,2), %r8") DO("mov " A ", %r9")                           \
    DO("cmpl $1, " JOIN) DO("je 13f") FETCH(rows, apart) EACH_##rows(ZERO, ) DO("jmp 15f")                               \
    "13:\n\t" START(rows, apart) "15:\n\t" DO("test %rbp, %rbp") DO("jle 29f")                                              \
    "20:\n\t" DO("mov (%r14), %rsi") DO("lea (%r9,%rsi," SIZE "), %rsi") DO("mov " DEPTH ", %rcx") DO("shr $2, %rcx") DO("je 27f")   \
    DO(".p2align 5")                                                                                                                \
    "26:\n\t" x LOAD_B("0") EACH_##rows(COLUMN_TERM, "(%rsi)") x LOAD_B("1") EACH_##rows(COLUMN_TERM, "(%rsi,%rax)")                  \
    x LOAD_B("2") EACH_##rows(COLUMN_TERM, "(%rsi,%rax,2)") x LOAD_B("3") EACH_##rows(COLUMN_TERM, "(%rsi,%r8)")                      \
    DO("lea (%rsi,%rax,4), %rsi") DO("add $4*128, %rdx") DO("dec %rcx") DO("jnz 26b")                                                \
    "27:\n\t" DO("mov " DEPTH ", %rcx") DO("and $3, %ecx") DO("jz 28f")                                                             \
    "32:\n\t" x LOAD_B("0") EACH_##rows(COLUMN_TERM, "(%rsi)") DO("add %rax, %rsi") DO("add $128, %rdx") DO("dec %ecx") DO("jnz 32b")  \
    "28:\n\t" DO("add $8, %r14") DO("dec %rbp") DO("jnz 20b") "29:\n\t"                                                              \
    FINISH(rows, apart) END(name));                                                                                                        \
    __attribute__((visibility("hidden"))) void FN(name)(const struct tile *t);

#define IN_ASSEMBLY(rows)                                                                                              \
    ROWS_IN_ASSEMBLY(rows)                                                                                                \
    CELLS_IN_ASSEMBLY(rows)                                                                                               \
    COLUMNS_IN_ASSEMBLY(rows, assembled_columns_##rows, FETCH_NONE)                                                       \
    COLUMNS_IN_ASSEMBLY(rows, assembled_columns_fetching_##rows, FETCH_NEXT)

IN_ASSEMBLY(8) IN_ASSEMBLY(9) IN_ASSEMBLY(10) IN_ASSEMBLY(11) IN_ASSEMBLY(12) IN_ASSEMBLY(13) IN_ASSEMBLY(14)
#else
#define TILES_IN_ASSEMBLY 0
#endif
