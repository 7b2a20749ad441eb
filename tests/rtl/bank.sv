// Accumulator banks of one column: each is a memory with one read and one write port and a read latency of one cycle.
// Two reads of a bank in one cycle, or a read and a write of the same row, are conflicts that no schedule may produce.
module bank #(
    parameter int V_W   = 48,
    parameter int ROWS  = 64,
    parameter int BANKS = 3
) (
    input  logic           clk,
    input  logic           read,
    input  logic [    1:0] read_bank,
    input  logic [   15:0] read_row,
    output logic [V_W-1:0] read_data,
    input  logic           write,
    input  logic [    1:0] write_bank,
    input  logic [   15:0] write_row,
    input  logic [V_W-1:0] write_data,
    input  logic           drain,
    input  logic [    1:0] drain_bank,
    input  logic [   15:0] drain_row,
    output logic [V_W-1:0] drain_data,
    output logic           conflict
);
  localparam int ADDRESS_W = $clog2(ROWS);
  logic [V_W-1:0] data[0:BANKS-1];
  logic [BANKS-1:0] collides;
  logic [1:0] read_from, drain_from;

  for (genvar b = 0; b < BANKS; b++) begin : g_bank
    logic [V_W-1:0] memory[0:ROWS-1];
    logic reads, drains, writes;
    logic [15:0] row;
    assign reads = read && read_bank == b;
    assign drains = drain && drain_bank == b;
    assign writes = write && write_bank == b;
    assign row = reads ? read_row : drain_row;
    assign collides[b] = (reads && drains) || ((reads || drains) && writes && row == write_row);
    always_ff @(posedge clk) begin
      if (writes) memory[write_row[ADDRESS_W-1:0]] <= write_data;
      if (reads || drains) data[b] <= memory[row[ADDRESS_W-1:0]];
    end
  end
  always_ff @(posedge clk) begin
    read_from  <= read_bank;
    drain_from <= drain_bank;
  end
  assign read_data  = data[read_from];
  assign drain_data = data[drain_from];
  assign conflict   = |collides;
endmodule
