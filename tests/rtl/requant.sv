// One lane of the requantiser (timing contract, sections 2 and 5.2), three registers deep.
// f32: y = clamp(rint(fl32(fl32(A) * s)) + z).   q31: y = clamp(RoundingDivideByPOT(SRDHM(A << left, m), right) + z).
module requant #(
    parameter int IN_W = 48
) (
    input  logic                   clk,
    input  logic                   fixed_point,  // q31 instead of f32
    input  logic signed [IN_W-1:0] value,
    input  logic        [    31:0] multiplier,   // float32 bits, or a fraction of 2^31
    input  logic signed [     7:0] shift,        // q31: to the left if positive, to the right if negative
    input  logic signed [    17:0] zero_point,
    input  logic signed [    17:0] lowest,
    input  logic signed [    17:0] highest,
    output logic signed [    17:0] result
);
  // First register: fl32(A), or A shifted to the left.
  logic f_zero, f_sign, f1_zero, f1_sign;
  logic signed [9:0] f_exponent, f1_exponent;
  logic [23:0] f_mantissa, f1_mantissa;
  logic signed [31:0] left, left1;
  logic [31:0] multiplier1;
  logic signed [7:0] shift1, shift2;
  int_to_float #(.IN_W(IN_W)) convert (
      .value, .zero(f_zero), .sign(f_sign), .exponent(f_exponent), .mantissa(f_mantissa)
  );
  shift_left_saturating #(.IN_W(IN_W)) shift_left (.value, .shift, .shifted(left));
  always_ff @(posedge clk) begin
    f1_zero <= f_zero;
    f1_sign <= f_sign;
    f1_exponent <= f_exponent;
    f1_mantissa <= f_mantissa;
    left1 <= left;
    multiplier1 <= multiplier;
    shift1 <= shift;
  end

  // Second register: the product.
  logic g_zero, g_sign, g2_zero, g2_sign;
  logic signed [9:0] g_exponent, g2_exponent;
  logic [23:0] g_mantissa, g2_mantissa;
  logic signed [31:0] high, high2;
  float_multiply multiply (
      .f_zero(f1_zero), .f_sign(f1_sign), .f_exponent(f1_exponent), .f_mantissa(f1_mantissa), .s(multiplier1),
      .zero(g_zero), .sign(g_sign), .exponent(g_exponent), .mantissa(g_mantissa)
  );
  doubling_high_multiply multiply_high (.a(left1), .b($signed(multiplier1)), .high);
  always_ff @(posedge clk) begin
    g2_zero <= g_zero;
    g2_sign <= g_sign;
    g2_exponent <= g_exponent;
    g2_mantissa <= g_mantissa;
    high2 <= high;
    shift2 <= shift1;
  end

  // Third register: rounded to an integer, zero point added, clamped.
  logic signed [31:0] rounded, divided;
  logic signed [33:0] shifted;
  float_round round (
      .zero(g2_zero), .sign(g2_sign), .exponent(g2_exponent), .mantissa(g2_mantissa), .rounded
  );
  rounding_divide divide (.value(high2), .shift(shift2), .divided);
  assign shifted = (fixed_point ? divided : rounded) + zero_point;
  always_ff @(posedge clk) begin
    if (shifted < lowest) result <= lowest;
    else if (shifted > highest) result <= highest;
    else result <= shifted[17:0];
  end
endmodule
