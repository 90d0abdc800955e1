// The highest rates at which this machine computes and reads, on the path and with the threads in use.
#pragma once

#include <cstddef>

namespace l2i {

// float32 operations per second, two for each multiply-add, with all operands in registers: the fastest of
// the runs of a few milliseconds that fit into about `seconds`.
double peak_flops(double seconds);

// Bytes per second that the threads read, each from its own array of about `n_bytes`, which comes from memory
// if it does not fit a cache. Throws std::invalid_argument for fewer than 512 bytes.
double read_bandwidth(std::size_t n_bytes, double seconds);

}  // namespace l2i
