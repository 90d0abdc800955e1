// Spectrum, logarithmic magnitudes and mel spectrogram of samples in one pass.
#pragma once

#include "log_mel.h"
#include "stft.h"

namespace l2i {

// y, window, shape and X as in stft. V: n_clips x n_frames rows of n_fft / 2 + 1 floats, log(1 + |X|);
// M: n_clips x n_frames rows of bands.n_bands; all contiguous.
void analyze(const FftPlan& plan, const float* y, std::ptrdiff_t y_stride, std::ptrdiff_t n_samples,
             const float* window, const StftShape& shape, const MelBands& bands, float* X, float* V,
             float* M);

}  // namespace l2i
