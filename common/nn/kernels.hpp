// Element-wise and row-wise kernels, written once with Highway and compiled for several instruction sets; the best one
// for the machine is chosen at the first call. Matrices are row-major (rows, width) without gaps.
// Sums run in a fixed order, so results depend on the data and the instruction set only, never on threads.
#pragma once
#include <cstddef>
#include <cstdint>

namespace bl::nn {

// gelu is the tanh form 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) of Hendrycks & Gimpel (arXiv:1606.08415),
// PyTorch's approximate="tanh": exactly differentiable at any precision, which the erf tables are not.
// silu(x) = x sigmoid(x); softplus(x) = log(1 + e^x), computed so that it neither overflows nor loses small values.
enum class Activation : std::uint8_t { none, relu, gelu, silu, sigmoid, tanh, softplus };

struct AdamW {
  double rate, beta1, beta2, epsilon;
  double correction1, correction2;  // 1 - beta^step
  double scale;                     // of the gradient: clipping
};

template <class T>
struct Kernels {
  // y = act(z + bias) + residual, bias and residual if any; y may be z. slope, if any, receives act'(z + bias): computed
  // beside act it is almost free, while the backward would need the exponential again.
  void (*bias_activation)(std::size_t rows, std::size_t width, const T* z, const T* bias, Activation act, const T* residual, T* y, T* slope);
  // dz = dy · slope (dz = dy without slope); dbias += column sums of dz (if any). dz may be dy.
  void (*bias_activation_back)(std::size_t rows, std::size_t width, const T* slope, const T* dy, T* dz, T* dbias);
  // z (rows, 2 width), a row is value | gate: y = (value + bias) · act(gate + bias of the gate), bias (2 width) if any.
  // slopes: z becomes d y / d value | d y / d gate, for the backward.
  void (*gated_activation)(std::size_t rows, std::size_t width, T* z, const T* bias, Activation act, T* y, bool slopes);
  // z *= dy for both halves, which makes it d loss / d z; dbias += its column sums (if any).
  void (*gated_activation_back)(std::size_t rows, std::size_t width, const T* dy, T* z, T* dbias);
  // y (rows, 2 width) = sin(2π t) | cos(2π t), t (rows, width) in turns: whole turns are taken off exactly.
  void (*sin_cos_turns)(std::size_t rows, std::size_t width, const T* t, T* y);
  // y = (x - mean) · rstd · weight + bias; centre false: RMS norm, mean is 0 and bias absent.
  void (*norm)(std::size_t rows, std::size_t width, bool centre, double epsilon, const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd);
  void (*norm_back)(std::size_t rows, std::size_t width, bool centre, const T* x, const T* weight, const T* mean, const T* rstd, const T* dy, T* dx,
                    bool accumulate, T* dweight, T* dbias);
  // One row of logits: adds bias (if any), returns -log softmax(logits)[target]; with scale != 0 the row becomes
  // scale · d loss / d logits, which is added to dbias (if any) too.
  T (*cross_entropy)(std::size_t n, T* logits, const T* bias, std::size_t target, T scale, T* dbias);
  void (*log_softmax)(std::size_t n, T* row);
  void (*add)(std::size_t n, const T* a, const T* b, T* y);       // y = a + b
  void (*add_scaled)(std::size_t n, T factor, const T* x, T* y);  // y += factor · x
  void (*blend)(std::size_t n, T keep, const T* x, T* y);         // y = keep · y + (1 - keep) · x
  double (*sum_squares)(std::size_t n, const T* x);
  // Squared distances of z (dim) to 64 points, coordinate c of point i at points[64 c + i]; returns the least. Each is summed
  // in the order of the coordinates without fused products, so that all machines agree on which is nearest.
  T (*squared_distances)(std::size_t dim, const T* points, const T* z, T* distance);
  void (*adamw)(std::size_t n, const AdamW& a, double decay, const T* grad, T* value, T* moment1, T* moment2);
  void (*lion)(std::size_t n, double rate, double beta1, double beta2, double decay, double scale, const T* grad, T* value, T* moment);
  void (*sgd)(std::size_t n, double rate, double momentum, bool nesterov, double decay, double scale, const T* grad, T* value, T* moment);
};

template <class T>
const Kernels<T>& kernels();
template <>
const Kernels<float>& kernels<float>();
template <>
const Kernels<double>& kernels<double>();

// The instruction set that the kernels run on, e.g. "AVX3".
const char* kernel_target();

}  // namespace bl::nn
