// l2i_fast._cuda: launches of the CUDA kernels. Pointers and CUDA streams are passed as integers; the caller
// checks sizes.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <utility>

#include "cuda/launch.h"

namespace py = pybind11;

namespace l2i::cuda {
namespace {

using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

cudaStream_t stream_at(Address address) { return reinterpret_cast<cudaStream_t>(address); }

// log2(n_fft / 2), or 0 if no kernel takes this length.
int log_points_or_none(long long n_fft) {
  for (int log = kLogPoints[0]; log <= kLogPoints[1]; ++log) {
    if (2LL << log == n_fft) return log;
  }
  return 0;
}

int log_points(long long n_fft) {
  if (const int log = log_points_or_none(n_fft)) return log;
  throw py::value_error("n_fft is " + std::to_string(n_fft) + ", but must be a power of two from " +
                        std::to_string(2 << kLogPoints[0]) + " to " + std::to_string(2 << kLogPoints[1]));
}

bool takes(long long n_fft, long long K, bool streams) {
  const int log = log_points_or_none(n_fft);
  return log > 0 && fits(1 << log, K, streams);
}

// Takes the members of Streams by name.
TickLaunch make_tick(const py::kwargs& members) {
  const auto number = [&](const char* name) { return members[name].cast<long long>(); };
  const auto floats = [&](const char* name) { return at<float>(members[name].cast<Address>()); };
  const auto flags = [&](const char* name) { return at<int>(members[name].cast<Address>()); };
  const Streams streams = {
      .by_bins = floats("by_bins"),
      .by_components = floats("by_components"),
      .gram = floats("gram"),
      .window = floats("window"),
      .norms = floats("norms"),
      .twiddles = at<Complex>(members["twiddles"].cast<Address>()),
      .hops = at<long long>(members["hops"].cast<Address>()),
      .input = floats("input"),
      .sums = floats("sums"),
      .h = floats("h"),
      .weights = floats("weights"),
      .start = floats("start"),
      .scale = floats("scale"),
      .has_start = flags("has_start"),
      .fading = flags("fading"),
      .next_weights = floats("next_weights"),
      .next_start = floats("next_start"),
      .next_scale = floats("next_scale"),
      .next_has_start = flags("next_has_start"),
      .fresh = flags("fresh"),
      .n = number("n"),
      .hop = number("hop"),
      .K = number("K"),
      .log_points = log_points(number("n_fft")),
      .n_updates = members["n_updates"].cast<int>(),
      .domain = members["domain"].cast<int>(),
      .eps = members["eps"].cast<float>(),
  };
  return TickLaunch(streams);
}

void run_tick(const TickLaunch& tick, Address blocks, Address H, Address out, Address stream) {
  tick(at<const float>(blocks), at<const float>(H), at<float>(out), stream_at(stream));
}

void run_stft(Address y, Address window, Address twiddles, Address X, long long n_clips, long long n_samples,
              long long n_frames, long long n_fft, long long hop, long long pad, Address stream) {
  stft({at<const float>(y), at<const float>(window), at<const Complex>(twiddles), at<Complex>(X), n_clips,
        n_samples, n_frames, hop, pad, log_points(n_fft)},
       stream_at(stream));
}

void run_decode(Address X, Address W, Address H, Address weights, Address window, Address twiddles, Address y,
                long long n_clips, long long n_frames, long long X_stride, long long K, long long H_stride,
                long long weights_stride, long long n_fft, long long hop, long long start, long long length,
                int domain, float eps, Address stream) {
  decode({at<const Complex>(X), at<const float>(W), at<const float>(H), at<const float>(weights),
          at<const float>(window), at<const Complex>(twiddles), at<float>(y), n_clips, n_frames, X_stride, K,
          H_stride, weights_stride, hop, start, length, log_points(n_fft), domain, eps},
         stream_at(stream));
}

std::pair<bool, std::string> available() { return {unavailable().empty(), unavailable()}; }

}  // namespace
}  // namespace l2i::cuda

PYBIND11_MODULE(_cuda, m) {
  namespace cuda = l2i::cuda;
  m.doc() = "The CUDA kernels of l2i_fast.";
  m.attr("FFT_SIZES") = py::make_tuple(2 << cuda::kLogPoints[0], 2 << cuda::kLogPoints[1]);
  m.def("available", &cuda::available,
        "Return whether the kernels can run here, and the reason if they cannot.");
  m.def(
      "fits", &cuda::takes, py::arg("n_fft"), py::arg("K"), py::arg("streams"),
      "Return whether the kernels of streams, or all others, take frames of n_fft samples and K components.");
  py::class_<cuda::TickLaunch>(m, "Tick")
      .def(py::init(&cuda::make_tick),
           "One hop of many streams; the arguments are the members of Streams in kernels/cuda/stream.h.")
      .def("__call__", &cuda::run_tick, py::arg("blocks"), py::arg("H"), py::arg("out"), py::arg("stream"));
  m.def("stft", &cuda::run_stft, py::kw_only(), py::arg("y"), py::arg("window"), py::arg("twiddles"),
        py::arg("X"), py::arg("n_clips"), py::arg("n_samples"), py::arg("n_frames"), py::arg("n_fft"),
        py::arg("hop"), py::arg("pad"), py::arg("stream"));
  m.def("decode", &cuda::run_decode, py::kw_only(), py::arg("X"), py::arg("W"), py::arg("H"),
        py::arg("weights"), py::arg("window"), py::arg("twiddles"), py::arg("y"), py::arg("n_clips"),
        py::arg("n_frames"), py::arg("X_stride"), py::arg("K"), py::arg("H_stride"),
        py::arg("weights_stride"), py::arg("n_fft"), py::arg("hop"), py::arg("start"), py::arg("length"),
        py::arg("domain"), py::arg("eps"), py::arg("stream"),
        "Compute samples from spectra, without a mask if W is 0.");
}
