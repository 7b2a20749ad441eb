// fl32(A): a signed integer to float32, rounded half to even, as sign, exponent of the leading one and 24-bit mantissa.
module int_to_float #(
    parameter int IN_W = 48
) (
    input  logic signed [IN_W-1:0] value,
    output logic                   zero,
    output logic                   sign,
    output logic signed [     9:0] exponent,
    output logic        [    23:0] mantissa
);
  localparam int X_W = IN_W + 25;  // room for a mantissa and its rounding bits below the smallest integer
  logic [IN_W-1:0] magnitude;
  logic [X_W-1:0] aligned;
  logic [9:0] leading;
  logic up;
  logic [24:0] rounded;

  assign sign = value[IN_W-1];
  assign magnitude = sign ? -value : value;
  assign zero = magnitude == 0;
  always_comb begin
    leading = 0;
    for (int i = 0; i < IN_W; i++) if (magnitude[i]) leading = 10'(i);
  end
  assign aligned = {magnitude, 25'd0} << (10'(IN_W - 1) - leading);
  // The 24 bits from the top are kept; the next one is a half, the others say whether it is exactly a half.
  assign up = aligned[X_W-25] && (aligned[X_W-24] || |aligned[X_W-26:0]);
  assign rounded = {1'b0, aligned[X_W-1-:24]} + 25'(up);
  assign mantissa = rounded[24] ? 24'h800000 : rounded[23:0];
  assign exponent = $signed(leading + 10'(rounded[24]));
endmodule

// fl32(f * s): a float32 product, rounded half to even. f comes unpacked, s as IEEE 754 bits. Subnormal scales and
// products count as zero, and products above the largest float32 keep their exponent: neither changes a rounded and
// clamped output.
module float_multiply (
    input  logic              f_zero,
    input  logic              f_sign,
    input  logic signed [9:0] f_exponent,
    input  logic       [23:0] f_mantissa,
    input  logic       [31:0] s,
    output logic              zero,
    output logic              sign,
    output logic signed [9:0] exponent,
    output logic       [23:0] mantissa
);
  logic [47:0] product, aligned;
  logic up;
  logic [24:0] rounded;
  assign zero = f_zero || s[30:23] == 0;
  assign sign = f_sign ^ s[31];
  assign product = {24'd0, f_mantissa} * {24'd0, 1'b1, s[22:0]};
  assign aligned = product[47] ? product : product << 1;
  assign up = aligned[23] && (aligned[24] || |aligned[22:0]);
  assign rounded = {1'b0, aligned[47:24]} + 25'(up);
  assign mantissa = rounded[24] ? 24'h800000 : rounded[23:0];
  assign exponent = f_exponent + $signed({2'b00, s[30:23]}) - 10'sd127 + $signed({9'd0, product[47]})
      + $signed({9'd0, rounded[24]});
endmodule

// rint(g), half to even. Magnitudes of 2^23 and above are integers beyond every output type: they return as 2^23.
module float_round (
    input  logic               zero,
    input  logic               sign,
    input  logic signed [ 9:0] exponent,
    input  logic        [23:0] mantissa,
    output logic signed [31:0] rounded
);
  logic [47:0] fixed;  // 24 integer bits, 24 fraction bits
  logic up;
  logic [31:0] magnitude;
  assign fixed = {24'd0, mantissa} << (exponent + 10'sd1);
  assign up = fixed[23] && (fixed[24] || |fixed[22:0]);
  assign magnitude = zero || exponent < -1 ? 32'd0
      : exponent >= 23 ? 32'h800000
      : {8'd0, fixed[47:24]} + 32'(up);
  assign rounded = sign ? -$signed(magnitude) : $signed(magnitude);
endmodule
