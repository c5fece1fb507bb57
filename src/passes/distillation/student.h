// A model whose floating point tensors are trainable copies.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

struct StudentParts {
  bool embedding = true;
  bool head = true;
};

/// `model` holds fp32 leaves that ask for gradients in place of every dense
/// matrix, bias and norm (packed weights stay as they are); the lists name
/// those leaves. Matrices decay, vectors do not.
struct Student {
  Model model;
  std::vector<at::Tensor> matrices;
  std::vector<at::Tensor> vectors;
};

Student make_student(const Model& start, at::Device device,
                     const StudentParts& parts);

/// The student's present values as a model of `start`'s dtypes and device.
Model finished(const Student& student, const Model& start);

}  // namespace autoglm
