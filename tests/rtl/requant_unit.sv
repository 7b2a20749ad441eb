// The requantiser (timing contract, sections 5.1 and 5.2): it reads the banks of finished output blocks, Q columns of
// one row per cycle, while the array fills another bank. A block takes rows * ceil(columns / Q) + 4 cycles; then its
// bank is free.
module requant_unit #(
    parameter int R   = 4,
    parameter int C   = 4,
    parameter int V_W = 48
) (
    input  logic             clk,
    input  logic             restart,
    input  logic             enabled,
    input  logic             fixed_point,
    input  logic      [ 7:0] lanes,
    input  logic      [ 1:0] banks,
    input  logic      [15:0] block_rows,
    input  logic      [15:0] t_total,
    input  logic      [15:0] n_total,
    input  logic             block_ready,     // the last result of a block is committed in this cycle
    input  logic      [15:0] array_block,     // the block that the array wants to start
    output logic             bank_free,       // ... may do so
    output logic      [15:0] output_block,    // the block whose output buffer is asked for
    input  logic             output_ready,
    // read port of the banks, one enable per column
    output logic [    C-1:0] drain,
    output logic      [ 1:0] drain_bank,
    output logic      [15:0] drain_row,
    input  logic [C*V_W-1:0] drain_data,
    // multipliers of the Q columns (or of the row), one cycle later
    output logic      [15:0] scale_column,
    output logic      [15:0] scale_row,
    input  logic [ C*32-1:0] multiplier,
    input  logic [ C*32-1:0] shift,
    input  logic signed [17:0] zero_point,
    input  logic signed [17:0] lowest,
    input  logic signed [17:0] highest,
    // outputs, written at the end of this cycle
    output logic [    C-1:0] result_valid,
    output logic      [15:0] result_row,
    output logic      [15:0] result_column,
    output logic [ C*32-1:0] result,
    output logic             finished,
    output logic      [15:0] blocks_done
);
  localparam int LATENCY = 4;

  logic valid, advance, starts, running, reading, ends_row, ends_block;
  logic [15:0] blocks_ready, row_base, column_base, rows, columns, row, column, row_now, column_now;
  logic [2:0] draining;

  // With a depth of one there is one tile per output block: the walker yields the blocks themselves.
  tile_walker #(.R(R), .C(C)) blocks (
      .clk, .restart, .advance, .output_stationary(1'b0), .block_rows, .t_total, .k_total(16'd1), .n_total,
      .valid, .index(), .block(output_block), .column_base, .row_base, .row_offset(), .depth_base(), .rows, .depth(),
      .columns, .first_of_block(), .last_of_block()
  );

  assign starts = enabled && valid && !running && draining == 0 && blocks_ready > blocks_done && output_ready;
  assign reading = running || starts;
  assign row_now = running ? row : 16'd0;
  assign column_now = running ? column : 16'd0;
  assign ends_row = column_now + lanes >= columns;
  assign ends_block = reading && ends_row && row_now + 1 == rows;
  assign advance = ends_block;
  assign bank_free = !enabled || array_block < blocks_done + banks;
  assign finished = !valid && draining == 0;

  always_ff @(posedge clk) begin
    if (restart) begin
      running <= 0;
      row <= 0;
      column <= 0;
      draining <= 0;
      blocks_ready <= 0;
      blocks_done <= 0;
      drain_bank <= 0;
    end else begin
      running <= reading && !ends_block;
      column  <= ends_row ? 16'd0 : column_now + lanes;
      row     <= row_now + 16'(ends_row);
      // The last read is on its way for LATENCY cycles; only then is the block done.
      if (ends_block) draining <= 3'(LATENCY);
      else if (draining != 0) draining <= draining - 1;
      if (draining == 1) begin
        blocks_done <= blocks_done + 1;
        drain_bank  <= drain_bank + 1 == banks ? 2'd0 : drain_bank + 1;
      end
      if (block_ready) blocks_ready <= blocks_ready + 1;
    end
  end

  // ---- bank address; lane l takes column column_now + l
  logic [C-1:0] lane_valid;
  for (genvar c = 0; c < C; c++) begin : g_enable
    assign lane_valid[c] = reading && c < lanes && column_now + c < columns;
    assign drain[c] = reading && c >= column_now && c < column_now + lanes && c < columns;
  end
  assign drain_row = row_now;
  assign scale_column = column_base + column_now;
  assign scale_row = row_base + row_now;

  logic [15:0] column_read;
  always_ff @(posedge clk) column_read <= column_now;
  for (genvar c = 0; c < C; c++) begin : g_lane
    logic [15:0] source;
    logic signed [17:0] lane_result;
    assign source = column_read + c;
    requant #(.IN_W(V_W)) lane (
        .clk, .fixed_point,
        .value(source < C ? drain_data[source*V_W+:V_W] : {V_W{1'b0}}),
        .multiplier(multiplier[c*32+:32]),
        .shift(shift[c*32+:8]),
        .zero_point, .lowest, .highest,
        .result(lane_result)
    );
    assign result[c*32+:32] = 32'(lane_result);
  end
  // Bank read, three registers of arithmetic: the fourth cycle writes the output.
  delay #(.WIDTH(C + 32), .DEPTH(LATENCY)) along (
      .clk,
      .in ({lane_valid, scale_row, scale_column}),
      .out({result_valid, result_row, result_column})
  );
endmodule
