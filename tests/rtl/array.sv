// R x C elements with the skew of the timing contract, section 3: the token and the operands of a step enter together
// at the corner, and PE(r,c) executes the step r + c cycles later. Lanes outside of the tile are fed zeros.
module array #(
    parameter int R   = 4,
    parameter int C   = 4,
    parameter int A_W = 9,
    parameter int W_W = 9,
    parameter int V_W = 48
) (
    input  logic             clk,
    input  logic             output_stationary,
    input  logic             saturate,
    input  logic [  V_W-1:0] maximum,
    input  logic [      7:0] token,           // of the step whose operands arrive in this cycle
    input  logic [      7:0] live_rows,       // lanes of x inside of the tile
    input  logic [      7:0] live_columns,
    input  logic [ R*32-1:0] x_data,
    input  logic [ C*32-1:0] w_data,
    input  logic [ C*32-1:0] bias_data,
    input  logic [C*V_W-1:0] partial_data,    // accumulator bank, column c already skewed by c
    output logic [C*V_W-1:0] bottom,          // column c: the result of the step issued R + c cycles before this token
    output logic [    C-1:0] bias_taken,
    output logic [  R*C-1:0] multiplies
);
  `include "token.svh"

  logic [7:0] token_wire[0:R][0:C-1];
  logic a_live_wire[0:R-1][0:C];
  logic signed [A_W-1:0] a_wire[0:R-1][0:C];
  logic signed [W_W-1:0] w_wire[0:R][0:C-1];
  logic signed [V_W-1:0] v_wire[0:R][0:C-1];

  for (genvar r = 0; r < R; r++) begin : g_row_edge
    localparam int LANE_W = A_W + 1;
    logic live;
    logic [LANE_W-1:0] lane, skewed;
    assign live = token[MAC] && live_rows > r;
    assign lane = {live, live ? x_data[r*32+:A_W] : {A_W{1'b0}}};
    delay #(.WIDTH(LANE_W), .DEPTH(r)) skew (.clk, .in(lane), .out(skewed));
    assign a_live_wire[r][0] = skewed[A_W];
    assign a_wire[r][0] = skewed[A_W-1:0];
  end

  // The token and the width of its tile move along the top edge; weights and bias wait for them in each column.
  logic [15:0] edge_wire[0:C];
  assign edge_wire[0] = {live_columns, token};
  for (genvar c = 0; c < C; c++) begin : g_column_edge
    logic [7:0] here;
    logic column_live;
    logic [W_W+32-1:0] skewed;
    logic signed [V_W:0] bias;
    logic signed [V_W-1:0] bias_narrowed;
    delay #(.WIDTH(16), .DEPTH(1)) along (.clk, .in(edge_wire[c]), .out(edge_wire[c+1]));
    delay #(.WIDTH(W_W + 32), .DEPTH(c)) skew (
        .clk,
        .in ({w_data[c*32+:W_W], bias_data[c*32+:32]}),
        .out(skewed)
    );
    assign here = edge_wire[c][7:0];
    assign column_live = edge_wire[c][15:8] > c;
    assign bias = $signed(skewed[31:0]);
    narrow #(.IN_W(V_W + 1), .OUT_W(V_W)) narrow_bias (
        .saturate,
        .maximum,
        .exact(bias),
        .narrowed(bias_narrowed)
    );
    assign token_wire[0][c] = {column_live, here[6:0]};
    assign w_wire[0][c] = $signed(skewed[32+:W_W]);
    assign v_wire[0][c] = here[FIRST] ? bias_narrowed : $signed(partial_data[c*V_W+:V_W]);
    assign bias_taken[c] = here[FIRST] && column_live;
    assign bottom[c*V_W+:V_W] = v_wire[R][c];
  end

  for (genvar r = 0; r < R; r++) begin : g_row
    for (genvar c = 0; c < C; c++) begin : g_column
      pe #(.A_W(A_W), .W_W(W_W), .V_W(V_W)) element (
          .clk,
          .output_stationary,
          .saturate,
          .maximum,
          .token_in  (token_wire[r][c]),
          .a_live_in (a_live_wire[r][c]),
          .a_in      (a_wire[r][c]),
          .w_in      (w_wire[r][c]),
          .v_in      (v_wire[r][c]),
          .token_out (token_wire[r+1][c]),
          .a_live_out(a_live_wire[r][c+1]),
          .a_out     (a_wire[r][c+1]),
          .w_out     (w_wire[r+1][c]),
          .v_out     (v_wire[r+1][c]),
          .multiplies(multiplies[r*C+c])
      );
    end
  end
endmodule
