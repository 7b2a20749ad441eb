// gemmlowp's fixed-point steps. A positive shift is to the left and comes first, saturating at 32 bits; then
// SaturatingRoundingDoublingHighMul; a negative shift is RoundingDivideByPOT and comes last.
module shift_left_saturating #(
    parameter int IN_W = 48
) (
    input  logic signed [IN_W-1:0] value,
    input  logic signed [     7:0] shift,
    output logic signed [    31:0] shifted
);
  logic signed [IN_W+30:0] wide, moved, above;
  assign wide = value;
  assign moved = shift > 0 ? wide <<< shift[4:0] : wide;
  assign above = moved >>> 31;  // all copies of the sign if the result fits
  assign shifted = above == 0 || above == -1 ? $signed(moved[31:0])
      : value < 0 ? 32'sh80000000
      : 32'sh7fffffff;
endmodule

module doubling_high_multiply (
    input  logic signed [31:0] a,
    input  logic signed [31:0] b,
    output logic signed [31:0] high
);
  logic signed [63:0] product, nudged, quotient;
  assign product = 64'(a) * 64'(b);
  assign nudged = product + (product < 0 ? 64'sd1 - 64'sd1073741824 : 64'sd1073741824);
  // C++ division truncates towards zero.
  assign quotient = (nudged < 0 ? nudged + 64'sd2147483647 : nudged) >>> 31;
  assign high = a == 32'sh80000000 && b == 32'sh80000000 ? 32'sh7fffffff : quotient[31:0];
endmodule

module rounding_divide (
    input  logic signed [31:0] value,
    input  logic signed [ 7:0] shift,
    output logic signed [31:0] divided
);
  logic [4:0] exponent;
  logic [31:0] mask, remainder, threshold;
  assign exponent = shift < 0 ? 5'(-shift) : 5'd0;
  assign mask = (32'd1 << exponent) - 1;
  assign remainder = $unsigned(value) & mask;
  assign threshold = (mask >> 1) + 32'(value < 0);
  assign divided = (value >>> exponent) + (remainder > threshold ? 32'sd1 : 32'sd0);
endmodule
