// N() of the timing contract, section 2: narrow an exact sum to ACC_W bits, chosen at run time, by wrapping or saturating.
// maximum = 2^(ACC_W-1) - 1; the result is sign-extended to V_W bits.
module narrow #(
    parameter int IN_W  = 49,
    parameter int OUT_W = 48
) (
    input  logic                    saturate,
    input  logic        [OUT_W-1:0] maximum,
    input  logic signed [ IN_W-1:0] exact,
    output logic signed [OUT_W-1:0] narrowed
);
  logic signed [IN_W-1:0] upper, lower;
  logic sign;
  assign upper = $signed({{(IN_W - OUT_W) {1'b0}}, maximum});
  assign lower = ~upper;
  // The bit above `maximum` is the sign of the wrapped value.
  assign sign = |(exact & ~upper & ((upper <<< 1) | 1));
  always_comb begin
    if (saturate && exact > upper) narrowed = upper[OUT_W-1:0];
    else if (saturate && exact < lower) narrowed = lower[OUT_W-1:0];
    else if (sign) narrowed = exact[OUT_W-1:0] | ~maximum;
    else narrowed = exact[OUT_W-1:0] & maximum;
  end
endmodule
