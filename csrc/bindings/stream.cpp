#include "stream.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "bands.h"
#include "bindings.h"
#include "frames.h"
#include "signals.h"
#include "stream_pool.h"

namespace py = pybind11;

namespace l2i::bindings {
namespace {

std::shared_ptr<StreamPlan> make_plan(const py::array& W, const py::array& window, std::ptrdiff_t hop,
                                      int n_updates, const std::string& domain, float eps, const Bands* bands,
                                      float lift) {
  const auto w = view<float>(W, "W", 2, 0);
  const auto v = view<float>(window, "window", 1, 1);
  plan_of(v.size[0]);  // throws for any other length
  require(w.size[0] == v.size[0] / 2 + 1 && w.size[1] >= 1,
          "W must have one row more than half the window's length, and at least one column");
  require(hop >= 1 && hop <= v.size[0], "hop must be at least 1 and at most the window's length");
  require(n_updates >= 0 && eps > 0 && lift >= 0, "n_updates and lift must be at least 0 and eps positive");
  std::optional<MelBands> mel;
  if (bands != nullptr) mel = bands->get(w.size[0], FLT_MIN);
  return std::make_shared<StreamPlan>(w.data, w.stride[0], w.stride[1], w.size[1], v.data, v.size[0],
                                      mel ? &*mel : nullptr,
                                      StreamPlan::Settings{hop, n_updates, domain_of(domain), eps, lift});
}

// Runs hops of a plan, without the GIL if they last: taking it back may last milliseconds, longer than a few
// hops.
template <typename Hops>
void run_hops(const StreamPlan& plan, std::ptrdiff_t n, const Hops& hops) {
  constexpr std::ptrdiff_t kMost = 32;
  constexpr double kMostTime = 5e7;  // in nanoseconds
  if (n > kMost || static_cast<double>(n) * plan.cost() > kMostTime) {
    without_gil(hops);
  } else {
    hops();
  }
}

// A stream that refuses a second call while one is running.
class GuardedStream {
 public:
  GuardedStream(std::shared_ptr<StreamPlan> plan, std::ptrdiff_t history)
      : stream_(std::move(plan), checked(history)) {}

  // Returns as many samples as are taken: all that are given, or those up to the end of frame `until`.
  // Returns None if an argument has to be converted first: a check in Python would delay a live stream.
  py::object push(const py::object& samples, std::ptrdiff_t until, const py::object& H) {
    const bool plain_H = H.is_none() || (is_array(H) && py::isinstance<py::array_t<float>>(H));
    if (!is_plain(samples) || !plain_H) return py::none();
    const auto& array = reinterpret_borrow_array(samples);
    const auto* const x = static_cast<const float*>(array.data());
    const std::ptrdiff_t n = array.size();
    check_samples(x, n);
    const Lock lock(*this);
    return run(n, false, H, [&](float* out, const Given& given) {
      return stream_.push(x, n, out, until, given.H, given.frame_stride, given.component_stride);
    });
  }

  py::object finish(std::ptrdiff_t until, const py::object& H) {
    const Lock lock(*this);
    const std::ptrdiff_t n = stream_.left();
    return run(n, true, H, [&](float* out, const Given& given) {
      return stream_.finish(n, out, until, given.H, given.frame_stride, given.component_stride);
    });
  }

  void reset() {
    const Lock lock(*this);
    stream_.reset();
  }

  void publish(const py::array& weights, float scale, const std::optional<py::array>& start) {
    const auto w = view<float>(weights, "weights", 1, 1);
    require(w.size[0] == stream_.n_components(), "weights must have as many components as W");
    require(scale >= FLT_MIN && scale <= FLT_MAX, "scale must be a positive, normal number");
    ArrayView s{};
    if (start) {
      s = view<float>(*start, "start", 1, 1);
      require(s.size[0] == stream_.n_components(), "start must have as many components as W");
    }
    stream_.publish(w.data, scale, s.data);
  }

  std::optional<py::array_t<float>> columns(std::ptrdiff_t first, std::ptrdiff_t n) const {
    require(n >= 0, "n must be at least 0");
    py::array_t<float> out({n, stream_.column_size()});
    if (!stream_.columns(first, n, out.mutable_data())) return std::nullopt;
    return out;
  }

  py::array_t<float> activations() const {
    py::array_t<float> h(stream_.n_components());
    stream_.activations(h.mutable_data());
    return h;
  }

  std::ptrdiff_t latency() const { return stream_.latency(); }
  std::ptrdiff_t hops() const { return stream_.hops(); }
  std::ptrdiff_t frames_in(std::ptrdiff_t n, bool last) const { return stream_.frames_in(n, last); }

 private:
  friend class GuardedPool;

  static std::ptrdiff_t checked(std::ptrdiff_t history) {
    require(history >= 0 && history <= kLongest, "history must be at least 0 and at most 2^40");
    return history;
  }

  class Lock {
   public:
    explicit Lock(GuardedStream& stream) : stream_(&stream) {
      if (stream.busy_.exchange(true))
        throw py::value_error("this stream is already in use, but takes one call at a time");
    }
    Lock(Lock&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
    ~Lock() {
      if (stream_ != nullptr) stream_->busy_ = false;
    }

   private:
    GuardedStream* stream_;
  };

  struct Given {
    const float* H = nullptr;
    std::ptrdiff_t frame_stride = 0, component_stride = 0;
  };

  static const py::array& reinterpret_borrow_array(const py::object& object) {
    return static_cast<const py::array&>(object);
  }

  // Whether an object is an array itself: those of derived types may hold more than numbers, such as a mask.
  static bool is_array(const py::object& object) {
    return Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_;
  }

  static bool is_plain(const py::object& object) {
    constexpr int kWanted =
        py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if (!is_array(object)) return false;
    const auto& array = reinterpret_borrow_array(object);
    return array.ndim() == 1 && (array.flags() & kWanted) == kWanted &&
           py::isinstance<py::array_t<float>>(object);
  }

  static void check_samples(const float* x, std::ptrdiff_t n) {
    if (current_kernels().in_range(x, n, -kLoudest, kLoudest)) return;
    const float* const bad = std::find_if_not(x, x + n, [](float v) { return std::abs(v) <= kLoudest; });
    const bool finite = std::isfinite(*bad);
    throw py::value_error(
        std::string("block holds ") + (finite ? "samples beyond 1e+30" : "NaN or infinity") +
        " (first at sample " + std::to_string(bad - x) + "), but " +
        (finite ? "samples from -1e+30 to 1e+30" : "finite samples") + " are needed: none of it was taken");
  }

  // Checks H (K, n) for the n frames that the call completes, or None.
  Given given(const py::object& H, std::ptrdiff_t n_frames) const {
    if (H.is_none()) return {};
    if (!py::isinstance<py::array>(H)) throw py::type_error("H must be an array");
    const auto h = view<float>(reinterpret_borrow_array(H), "H", 2, 0);
    const std::ptrdiff_t K = stream_.n_components();
    if (h.size[0] != K || h.size[1] != n_frames) {
      const auto text = [](std::ptrdiff_t rows, std::ptrdiff_t columns) {
        return "(" + std::to_string(rows) + ", " + std::to_string(columns) + ")";
      };
      throw py::value_error("H has shape " + text(h.size[0], h.size[1]) + ", but (K, n) = " +
                            text(K, n_frames) + " is needed for the n frames that are completed");
    }
    for (std::ptrdiff_t k = 0; k < K; ++k) {
      for (std::ptrdiff_t t = 0; t < n_frames; ++t) {
        const float value = h.data[k * h.stride[0] + t * h.stride[1]];
        require(value >= 0 && value <= FLT_MAX,
                "H holds negative numbers, NaN or infinity, but must be non-negative and finite");
        require(value <= 1e25f, "H holds numbers above 1e+25, but must hold at most that");
      }
    }
    return {h.data, h.stride[1], h.stride[0]};
  }

  template <typename Push>
  py::object run(std::ptrdiff_t n, bool last, const py::object& H, const Push& push) {
    const std::ptrdiff_t n_frames = stream_.frames_in(last ? 0 : n, last);
    const Given rows = given(H, n_frames);
    py::array_t<float> out(n);
    float* const to = out.mutable_data();
    std::ptrdiff_t done = 0;
    run_hops(stream_.plan(), n_frames, [&] { done = push(to, rows); });
    if (done == n) return out;
    return out[py::slice(0, done, 1)];
  }

  Stream stream_;
  std::atomic<bool> busy_{false};
};

// A pool that refuses a second call while one is running.
class GuardedPool {
 public:
  explicit GuardedPool(std::shared_ptr<StreamPlan> plan) : plan_(plan), pool_(std::move(plan)) {}

  // Returns the samples of each stream for its block, or for its end if the block is None, up to the end of
  // frame until[i]: an array if the blocks are the rows of one, otherwise a list.
  py::object push(const py::sequence& streams, const py::sequence& blocks,
                  const std::optional<std::vector<std::ptrdiff_t>>& until) {
    const std::size_t n = streams.size();
    require(blocks.size() == n && (!until || until->size() == n),
            "blocks and until must have an entry for each stream");
    const std::unique_lock<std::mutex> lock(busy_, std::try_to_lock);
    require(lock.owns_lock(), "this pool is already in use, but takes one call at a time");
    std::vector<Named> named;
    std::vector<StreamPool::Part> parts;
    named.reserve(n);
    parts.reserve(n);
    const auto for_each = [&](const auto& part_of) {
      for (std::size_t i = 0; i < n; ++i) {
        try {
          named.push_back(name(streams[i]));
          parts.push_back(part_of(i, named.back().stream->stream_));
        } catch (const py::value_error& error) {
          throw py::value_error("stream " + std::to_string(i) + ": " + error.what());
        } catch (const py::type_error& error) {
          throw py::type_error("stream " + std::to_string(i) + ": " + error.what());
        }
      }
      advance(parts);
    };

    if (py::isinstance<py::array>(blocks)) {
      const auto rows = view<float>(py::reinterpret_borrow<py::array>(blocks), "blocks", 2, 1);
      require(!until, "until must be None unless blocks is a list");
      const std::ptrdiff_t m = rows.size[1];
      py::array_t<float> out({rows.size[0], m});
      float* const to = out.mutable_data();
      for_each([&](std::size_t i, Stream& stream) {
        const auto row = static_cast<std::ptrdiff_t>(i);
        const float* const samples = rows.data + row * rows.stride[0];
        GuardedStream::check_samples(samples, m);
        return StreamPool::Part{&stream, samples, m, to + row * m, -1, false};
      });
      return out;
    }

    std::vector<py::object> owners;  // keep the samples alive while the GIL is released
    std::vector<py::array_t<float>> out;
    owners.reserve(n);
    out.reserve(n);
    for_each([&](std::size_t i, Stream& stream) {
      const py::object& block = owners.emplace_back(blocks[i]);
      const bool ends = block.is_none();
      ArrayView samples{};
      if (!ends) {
        if (!py::isinstance<py::array>(block)) throw py::type_error("samples must be an array");
        samples = view<float>(py::reinterpret_borrow<py::array>(block), "samples", 1, 1);
        GuardedStream::check_samples(samples.data, samples.size[0]);
      }
      const std::ptrdiff_t m = ends ? stream.left() : samples.size[0];
      float* const to = out.emplace_back(m).mutable_data();
      return StreamPool::Part{&stream, samples.data, m, to, until ? (*until)[i] : -1, ends};
    });
    py::list result(n);
    for (std::size_t i = 0; i < n; ++i) {
      result[i] = parts[i].done == parts[i].n ? py::object(out[i]) : out[i][py::slice(0, parts[i].done, 1)];
    }
    return result;
  }

 private:
  struct Named {
    py::object owner;
    GuardedStream* stream;
    GuardedStream::Lock lock;
  };

  Named name(py::object owner) const {
    if (!py::isinstance<GuardedStream>(owner)) throw py::type_error("must be a Stream");
    auto* const stream = owner.cast<GuardedStream*>();
    require(&stream->stream_.plan() == plan_.get(), "must have the plan of this pool");
    return {std::move(owner), stream, GuardedStream::Lock(*stream)};
  }

  void advance(std::vector<StreamPool::Part>& parts) {
    std::ptrdiff_t n_frames = 0;
    for (const auto& part : parts) n_frames += part.stream->frames_in(part.ends ? 0 : part.n, part.ends);
    run_hops(*plan_, n_frames, [&] { pool_.push(parts); });
  }

  std::shared_ptr<StreamPlan> plan_;
  StreamPool pool_;
  std::mutex busy_;
};

}  // namespace

void register_stream(py::module_& m) {
  py::class_<StreamPlan, std::shared_ptr<StreamPlan>>(m, "StreamPlan")
      .def(py::init(&make_plan), py::arg("W"), py::arg("window"), py::arg("hop"), py::arg("n_updates"),
           py::arg("domain"), py::arg("eps"), py::arg("bands") = nullptr, py::arg("lift") = 0.0f,
           "The tables that all streams of one dictionary W (F, K) share.");
  py::class_<GuardedStream>(m, "Stream")
      .def(py::init<std::shared_ptr<StreamPlan>, std::ptrdiff_t>(), py::arg("plan"), py::arg("history") = 0)
      .def(
          "push", &GuardedStream::push, py::arg("samples"), py::arg("until") = -1, py::arg("H") = py::none(),
          "Return as many samples as are given; fewer if frame `until` is completed before the last of them.")
      .def("finish", &GuardedStream::finish, py::arg("until") = -1, py::arg("H") = py::none(),
           "Return the samples still due, up to frame `until`; after the last one, a new signal begins.")
      .def("reset", &GuardedStream::reset)
      .def("publish", &GuardedStream::publish, py::arg("weights"), py::arg("scale"),
           py::arg("start") = py::none())
      .def("columns", &GuardedStream::columns, py::arg("first"), py::arg("n"),
           "Return mel magnitudes and peaks (n, n_mels + 1) of n frames, or, without bands, their new "
           "samples and "
           "peaks (n, hop + 1); None unless all are kept.")
      .def("activations", &GuardedStream::activations)
      .def("frames_in", &GuardedStream::frames_in, py::arg("n"), py::arg("last"))
      .def_property_readonly("latency", &GuardedStream::latency)
      .def_property_readonly("hops", &GuardedStream::hops);
  py::class_<GuardedPool>(m, "StreamPool")
      .def(py::init<std::shared_ptr<StreamPlan>>(), py::arg("plan"))
      .def("push", &GuardedPool::push, py::arg("streams"), py::arg("blocks"), py::arg("until") = py::none(),
           "Return the samples of each stream for its block, as its push would, or, for None, its finish:\n"
           "an array (n, m) if the blocks are the rows of one, otherwise a list.");
}

}  // namespace l2i::bindings
