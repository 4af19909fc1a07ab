// GCC 12's _tile_loadconfig tells the optimizer that it reads 8 of the 64 bytes, so llama.cpp's
// stores to the others are dropped and its first AMX product faults. Included before its sources
// (-include), this takes the intrinsic's place; newer compilers lose nothing by it.
#pragma once
#if defined(__AMX_TILE__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) \
  __asm__ volatile("ldtilecfg %0" : : "m"(*(const char(*)[64])(config)))
#endif
