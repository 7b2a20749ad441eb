// DEPTH registers in a row (none for DEPTH = 0).
module delay #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 1
) (
    input  logic             clk,
    input  logic [WIDTH-1:0] in,
    output logic [WIDTH-1:0] out
);
  if (DEPTH == 0) begin : g_wire
    assign out = in;
  end else begin : g_registers
    logic [WIDTH-1:0] stage[0:DEPTH-1];
    always_ff @(posedge clk) begin
      stage[0] <= in;
      for (int i = 1; i < DEPTH; i++) stage[i] <= stage[i-1];
    end
    assign out = stage[DEPTH-1];
  end
endmodule
