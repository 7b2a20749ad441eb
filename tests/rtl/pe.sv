// One processing element (timing contract, section 3): registers a, w0, w1, w, v, acc, o and the token pipeline.
module pe #(
    parameter int A_W = 9,
    parameter int W_W = 9,
    parameter int V_W = 48
) (
    input  logic                  clk,
    input  logic                  output_stationary,
    input  logic                  saturate,
    input  logic        [V_W-1:0] maximum,
    input  logic        [    7:0] token_in,
    input  logic                  a_live_in,
    input  logic signed [A_W-1:0] a_in,
    input  logic signed [W_W-1:0] w_in,
    input  logic signed [V_W-1:0] v_in,
    output logic        [    7:0] token_out,
    output logic                  a_live_out,
    output logic signed [A_W-1:0] a_out,
    output logic signed [W_W-1:0] w_out,
    output logic signed [V_W-1:0] v_out,
    output logic                  multiplies
);
  /* verilator no_inline_module */
  `include "token.svh"
  localparam int P_W = A_W + W_W;
  localparam int S_W = (V_W > P_W ? V_W : P_W) + 1;

  logic signed [W_W-1:0] w0, w1, weight;
  logic signed [V_W-1:0] acc, o, addend, narrowed;
  logic signed [P_W-1:0] product;
  logic signed [S_W-1:0] exact;

  assign weight = output_stationary ? w_in : token_in[CSEL] ? w1 : w0;
  assign addend = output_stationary && !token_in[FIRST] ? acc : v_in;
  assign product = a_in * weight;
  assign exact = addend + product;
  assign multiplies = token_in[MAC] && token_in[LIVE] && a_live_in;

  narrow #(.IN_W(S_W), .OUT_W(V_W)) narrow_sum (.saturate, .maximum, .exact, .narrowed);

  always_ff @(posedge clk) begin
    token_out  <= token_in;
    a_live_out <= a_live_in;
    a_out      <= a_in;
    if (output_stationary) begin
      w_out <= w_in;
      v_out <= token_in[SHIFT] ? o : v_in;
      if (token_in[MAC]) acc <= narrowed;
      // The step that ends a tile may carry the last shift of the tile before: the old o leaves, the new sum enters.
      if (token_in[LAST]) o <= narrowed;
      else if (token_in[SHIFT]) o <= v_in;
    end else begin
      if (token_in[MAC]) v_out <= narrowed;
      if (token_in[PUSH]) begin
        w_out <= token_in[PSEL] ? w1 : w0;
        if (token_in[PSEL]) w1 <= w_in;
        else w0 <= w_in;
      end
    end
  end
endmodule
