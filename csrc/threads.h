// The threads that all native operations share.
#pragma once

namespace l2i {

// How many threads an operation may use, the calling one included. At first OMP_NUM_THREADS where it is a
// positive integer, otherwise the processors that this process may run on.
int num_threads();
// Throws std::invalid_argument for n < 1.
void set_num_threads(int n);

// A reference to something that is called with a task's index; it must outlive the call.
class TaskRef {
 public:
  template <typename F>
  TaskRef(const F& f)  // NOLINT: a lambda is meant to convert
      : object_(&f), call_([](const void* object, int i) { (*static_cast<const F*>(object))(i); }) {}
  void operator()(int i) const { call_(object_, i); }

 private:
  const void* object_;
  void (*call_)(const void*, int);
};

// Runs task(0) .. task(n_tasks - 1) on at most num_threads() threads, the caller being one of them, and
// returns when all are done. Which thread runs which task is left to chance: results must depend on the index
// alone. After a task has thrown, those that have not begun are left out, and its exception is thrown here.
//
// One caller at a time has the other threads. Any other, in another thread or in a task, runs its tasks
// itself. Idle threads sleep, and a forked child starts threads of its own.
void parallel(int n_tasks, TaskRef task);

}  // namespace l2i
