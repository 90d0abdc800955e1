// Declarations of stft.cpp for the table of one instruction set.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

void stft_tile(const FftTables& fft, const float* const* frames, int n_frames, const float* window,
               float* work, float* out, std::ptrdiff_t out_stride, float* magnitudes);
void istft_tile(const FftTables& fft, const float* rows, std::ptrdiff_t row_stride, int n_frames,
                const float* window, float* work, float* sums, std::ptrdiff_t hop);
void decode_tile(const FftTables& fft, const float* rows, std::ptrdiff_t row_stride, int n_frames,
                 const float* mask, std::ptrdiff_t mask_stride, bool log, const float* window, float* work,
                 float* sums, std::ptrdiff_t hop);
void scale(const float* from, const float* factors, std::ptrdiff_t n, float* to);

}  // namespace l2i::kernels::L2I_ISA
