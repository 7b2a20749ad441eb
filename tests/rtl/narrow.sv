// N() of the timing contract, section 2: narrow an exact sum to ACC_W bits, chosen at run time, by wrapping or
// saturating. maximum = 2^(ACC_W-1) - 1; the result is sign-extended to V_W bits.
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
  logic negative;
  assign upper = $signed({{(IN_W - OUT_W) {1'b0}}, maximum});
  assign lower = ~upper;
  // The bit above `maximum` is the sign of the wrapped value.
  assign negative = |(exact & ~upper & ((upper <<< 1) | 1));
  assign narrowed = saturate && exact > upper ? $signed(maximum)
      : saturate && exact < lower ? $signed(~maximum)
      : negative ? $signed(exact[OUT_W-1:0] | ~maximum)
      : $signed(exact[OUT_W-1:0] & maximum);
endmodule
