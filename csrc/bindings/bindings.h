// One register function per topic; module.cpp lists them.
#pragma once

#include <pybind11/pybind11.h>

namespace l2i::bindings {

void register_analyze(pybind11::module_& m);
void register_ceilings(pybind11::module_& m);
void register_cpu(pybind11::module_& m);
void register_log_mel(pybind11::module_& m);
void register_nmf(pybind11::module_& m);
void register_soft_mask(pybind11::module_& m);
void register_stft(pybind11::module_& m);
void register_stream(pybind11::module_& m);
void register_threads(pybind11::module_& m);

}  // namespace l2i::bindings
