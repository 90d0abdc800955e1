// How fast this machine computes and reads at most, on the path and with the threads in use.
#pragma once

#include <cstddef>

namespace l2i {

// float32 operations a second, two for each multiply-add, with all operands in registers; the fastest of runs
// of a few milliseconds within about `seconds`.
double peak_flops(double seconds);

// Bytes a second that the threads read, each from an array of its own of about `n_bytes`: what does not fit
// into a cache comes from memory. Throws std::invalid_argument for fewer than 512 bytes.
double read_bandwidth(std::size_t n_bytes, double seconds);

}  // namespace l2i
