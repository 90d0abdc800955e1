#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "interrupt.h"

namespace l2i {
namespace {

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

int default_threads() {
  // A list, "4,2", has a number for each level of nested parallel regions; here there is only the first.
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    int n = 0;
    const char* const end = text + std::strlen(text);
    const auto skip = [end](const char* at) {
      return std::find_if(at, end, [](char c) { return !is_space(c); });
    };
    const auto [stop, error] = std::from_chars(skip(text), end, n);
    const char* const next = skip(stop);
    if (error == std::errc() && (next == end || *next == ',') && n >= 1) return n;
  }
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::atomic<int> chosen_threads{0};  // 0 before the first use

// Tasks that are handed out one by one to the threads that work on them.
class Job {
 public:
  Job(int n_tasks, TaskRef task) : n_tasks_(n_tasks), task_(task) {}

  void work() {
    const Stoppable here(stopped_);
    for (int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < n_tasks_;) {
      try {
        task_(i);
      } catch (...) {
        fail();
      }
    }
  }

  // To be called by the caller while it waits for the other threads.
  void check() {
    try {
      check_if_due();
    } catch (...) {
      fail();
    }
  }

  // Rethrows the exception of a task; to be called when all threads have stopped working.
  void finish() {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  // Keeps the first exception and ends the job.
  void fail() {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
    next_.store(n_tasks_, std::memory_order_relaxed);
    stopped_.store(true, std::memory_order_relaxed);
  }

  const int n_tasks_;
  const TaskRef task_;
  std::atomic<int> next_{0};
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

// Threads that sleep until they are needed. They and the pool live as long as the process.
class Pool {
 public:
  bool acquire() { return !busy_.test_and_set(std::memory_order_acquire); }
  void release() { busy_.clear(std::memory_order_release); }

  // Works on the job, with at most n_helpers threads beside the caller.
  void run(Job& job, int n_helpers) {
    {
      const std::lock_guard lock(mutex_);
      while (n_workers_ < n_helpers && start_worker()) ++n_workers_;
      job_ = &job;
      wanted_ = n_helpers = std::min(n_helpers, n_workers_);
    }
    for (int i = 0; i < n_helpers; ++i) wake_.notify_one();
    job.work();
    std::unique_lock lock(mutex_);
    wanted_ = 0;  // do not wait for threads that have not woken up yet
    while (!idle_.wait_for(lock, std::chrono::milliseconds(100), [this] { return working_ == 0; })) {
      lock.unlock();
      job.check();
      lock.lock();
    }
  }

 private:
  bool start_worker() {
    // Signals are left to the interpreter's threads; faults go to the thread that causes them.
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&blocked, fault);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    bool started = true;
    try {
      std::thread([this] { serve(); }).detach();
    } catch (const std::exception&) {  // no more threads can be started: go on with fewer
      started = false;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
  }

  [[noreturn]] void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return wanted_ > 0; });
      --wanted_;
      ++working_;
      Job& job = *job_;
      lock.unlock();
      job.work();
      lock.lock();
      if (--working_ == 0) idle_.notify_one();
    }
  }

  std::atomic_flag busy_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  Job* job_ = nullptr;
  int n_workers_ = 0, wanted_ = 0, working_ = 0;
};

std::atomic<Pool*> current_pool{nullptr};

Pool& pool() {
  if (Pool* existing = current_pool.load(std::memory_order_acquire)) return *existing;
  // A forked child has none of the pool's threads, and locks that they hold would never be released.
  static const int registered = pthread_atfork(nullptr, nullptr, [] { current_pool = nullptr; });
  static_cast<void>(registered);
  Pool *fresh = new Pool, *existing = nullptr;
  if (current_pool.compare_exchange_strong(existing, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *existing;
}

}  // namespace

int num_threads() {
  int n = chosen_threads.load(std::memory_order_relaxed);
  if (n != 0) return n;
  const int fallback = default_threads();
  return chosen_threads.compare_exchange_strong(n, fallback) ? fallback : n;
}

void set_num_threads(int n) {
  if (n < 1) throw std::invalid_argument("n is " + std::to_string(n) + ", but must be at least 1");
  chosen_threads.store(n, std::memory_order_relaxed);
}

void parallel(int n_tasks, TaskRef task) {
  Job job(n_tasks, task);
  const int n_threads = std::min(num_threads(), n_tasks);
  Pool* const shared = n_threads > 1 ? &pool() : nullptr;
  if (shared != nullptr && shared->acquire()) {
    shared->run(job, n_threads - 1);
    shared->release();
  } else {
    job.work();
  }
  job.finish();
}

}  // namespace l2i
