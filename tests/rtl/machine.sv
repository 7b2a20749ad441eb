// Array, controller, accumulator banks and requantiser with the operand memories outside: an address goes out in one
// cycle and its word comes back in the next. Counters and probes are read by the bench.
module machine #(
    parameter int R     = 4,
    parameter int C     = 4,
    parameter int A_W   = 9,
    parameter int W_W   = 9,
    parameter int V_W   = 48,
    parameter int ROWS  = 64,
    parameter int BANKS = 3
) (
    input  logic              clk,
    input  logic              restart,
    // configuration, constant during a case
    input  logic              output_stationary,
    input  logic              input_stationary,
    input  logic        [7:0] gather_words,
    input  logic              double_buffer,
    input  logic              drain_overlap,
    input  logic              flush_between_tiles,
    input  logic              full_weight_load,
    input  logic              saturate,
    input  logic        [6:0] acc_bits,
    input  logic       [15:0] block_rows,
    input  logic       [15:0] t_total,
    input  logic       [15:0] k_total,
    input  logic       [15:0] n_total,
    input  logic        [1:0] banks,
    input  logic              requant_enabled,
    input  logic              fixed_point,
    input  logic        [7:0] requant_lanes,
    input  logic signed [17:0] zero_point,
    input  logic signed [17:0] lowest,
    input  logic signed [17:0] highest,
    input  logic              implicit_im2col,   // the activations are a feature map, addressed by the generator
    input  logic   [14*16-1:0] geometry,
    input  logic        [15:0] pad_value,
    // readiness, as levels
    output logic       [15:0] push_tile,
    output logic       [15:0] push_block,
    output logic       [15:0] stream_tile,
    output logic       [15:0] stream_block,
    output logic       [15:0] output_block,
    input  logic              weights_ready,
    input  logic              operands_ready,
    input  logic              output_ready,
    // operand memories
    output logic              x_enable,
    output logic        [7:0] x_lanes,
    output logic       [15:0] x_row,
    output logic       [15:0] x_depth,
    output logic   [R*32-1:0] x_address,
    output logic      [R-1:0] x_pad,
    input  logic   [R*32-1:0] x_data,
    output logic              w_enable,
    output logic        [7:0] w_columns,
    output logic       [15:0] w_depth,
    output logic       [15:0] w_column,
    output logic   [C*32-1:0] w_address,
    output logic      [C-1:0] w_pad,
    input  logic   [C*32-1:0] w_data,
    output logic       [15:0] bias_row,
    output logic       [15:0] bias_column,
    input  logic   [C*32-1:0] bias_data,
    output logic       [15:0] scale_row,
    output logic       [15:0] scale_column,
    input  logic   [C*32-1:0] scale_multiplier,
    input  logic   [C*32-1:0] scale_shift,
    // results of the array (final sums, column by column) and of the requantiser
    output logic      [C-1:0] commit_live,
    output logic      [C-1:0] commit_is_final,
    output logic   [C*16-1:0] commit_at_row,
    output logic   [C*16-1:0] commit_at_column,
    output logic   [C*64-1:0] commit_data,
    output logic      [C-1:0] result_valid,
    output logic       [15:0] result_row,
    output logic       [15:0] result_column,
    output logic   [C*32-1:0] result,
    // probes
    output logic        [7:0] probe_token,
    output logic        [6:0] probe_class,
    output logic              probe_tile_starts,
    output logic              probe_push_starts,
    output logic    [R*C-1:0] probe_multiplies,
    output logic      [C-1:0] probe_bias,
    output logic      [C-1:0] probe_bank_read,
    output logic      [C-1:0] probe_drain,
    output logic              probe_block_ready,
    output logic       [15:0] probe_blocks_done,
    // counters
    output logic       [31:0] total,
    output logic   [7*32-1:0] class_cycles,
    output logic   [6*32-1:0] events,
    output logic              conflict,
    output logic              finished
);
  `include "token.svh"

  logic [V_W-1:0] maximum;
  assign maximum = {V_W{1'b1}} >> (V_W + 1 - acc_bits);

  // ---- issue
  logic [7:0] token, token_arrived, live_rows, live_columns;
  logic bank_free, bank_read, commit, commit_final, commit_ends_block;
  logic [7:0] commit_columns;
  logic [1:0] bank, commit_bank;
  logic [15:0] bank_row, commit_bank_row, commit_row, commit_column;
  engine #(.R(R), .C(C)) engine (
      .clk, .restart, .output_stationary, .input_stationary, .gather_words, .double_buffer, .drain_overlap,
      .flush_between_tiles, .full_weight_load, .block_rows, .t_total, .k_total, .n_total, .banks,
      .push_tile, .push_block, .stream_tile, .stream_block, .weights_ready, .operands_ready, .bank_free,
      .token, .live_rows, .live_columns, .x_row, .x_depth, .w_enable, .w_columns, .w_depth, .w_column, .bias_column,
      .bank_read, .commit, .commit_final, .commit_ends_block, .commit_columns, .bank, .commit_bank,
      .bank_row, .commit_bank_row, .commit_row, .commit_column,
      .tile_starts(probe_tile_starts), .push_starts(probe_push_starts), .cycle_class(probe_class)
  );
  assign x_enable = token[MAC];
  assign x_lanes = live_rows;
  assign bias_row = x_row;
  assign probe_token = token;

  // ---- the operand memories answer one cycle later; the token waits for them
  logic [7:0] live_rows_arrived, live_columns_arrived;
  delay #(.WIDTH(24), .DEPTH(1)) memory_latency (
      .clk,
      .in (restart ? 24'd0 : {live_rows, live_columns, token}),
      .out({live_rows_arrived, live_columns_arrived, token_arrived})
  );

  // ---- feature maps: WS gathers R depths of one row, OS one depth of R rows, IS one depth of C rows for its pushes
  logic [R-1:0] x_pad_arrived;
  logic [C-1:0] w_pad_arrived;
  logic [R*32-1:0] x_arrived;
  logic [C*32-1:0] w_arrived;
  im2col #(.LANES(R)) x_addresses (
      .m(x_row), .k(x_depth), .lanes_are_rows(output_stationary), .geometry, .address(x_address), .pad(x_pad)
  );
  im2col #(.LANES(C)) w_addresses (
      .m(w_column), .k(w_depth), .lanes_are_rows(1'b1), .geometry, .address(w_address), .pad(w_pad)
  );
  delay #(.WIDTH(R + C), .DEPTH(1)) pad_latency (
      .clk,
      .in ({implicit_im2col && !input_stationary ? x_pad : {R{1'b0}},
            implicit_im2col && input_stationary ? w_pad : {C{1'b0}}}),
      .out({x_pad_arrived, w_pad_arrived})
  );
  for (genvar r = 0; r < R; r++) begin : g_x_pad
    assign x_arrived[r*32+:32] = x_pad_arrived[r] ? {{16{pad_value[15]}}, pad_value} : x_data[r*32+:32];
  end
  for (genvar c = 0; c < C; c++) begin : g_w_pad
    assign w_arrived[c*32+:32] = w_pad_arrived[c] ? {{16{pad_value[15]}}, pad_value} : w_data[c*32+:32];
  end

  logic [C*V_W-1:0] partial_data, bottom;
  array #(.R(R), .C(C), .A_W(A_W), .W_W(W_W), .V_W(V_W)) array (
      .clk, .output_stationary, .saturate, .maximum,
      .token(token_arrived), .live_rows(live_rows_arrived), .live_columns(live_columns_arrived),
      .x_data(x_arrived), .w_data(w_arrived), .bias_data, .partial_data, .bottom,
      .bias_taken(probe_bias), .multiplies(probe_multiplies)
  );

  // ---- accumulator banks: the read address moves along the columns with the token, the result R + 1 cycles behind it
  localparam int READ_W = 1 + 8 + 2 + 16;
  localparam int COMMIT_W = 1 + 1 + 1 + 8 + 2 + 16 + 16 + 16;
  logic [READ_W-1:0] read_line[0:C];
  logic [COMMIT_W-1:0] commit_line[0:C];
  logic requant_finished;
  logic [C-1:0] drain, collides;
  logic [1:0] drain_bank;
  logic [15:0] drain_row;
  logic [C*V_W-1:0] drain_data;
  assign read_line[0] = {bank_read && !restart, live_columns, bank, bank_row};
  delay #(.WIDTH(COMMIT_W), .DEPTH(R + 1)) through_rows (
      .clk,
      .in ({commit && !restart, commit_final, commit_ends_block && !restart, commit_columns, commit_bank,
            commit_bank_row, commit_row, commit_column}),
      .out(commit_line[0])
  );
  for (genvar c = 0; c < C; c++) begin : g_column
    logic read, write, is_final, ends_block;
    logic [7:0] read_columns, write_columns;
    logic [1:0] read_bank, write_bank;
    logic [15:0] read_row, write_row;
    assign {read, read_columns, read_bank, read_row} = read_line[c];
    assign {write, is_final, ends_block, write_columns, write_bank, write_row,
            commit_at_row[c*16+:16], commit_at_column[c*16+:16]} = commit_line[c];
    delay #(.WIDTH(READ_W), .DEPTH(1)) read_along (.clk, .in(read_line[c]), .out(read_line[c+1]));
    delay #(.WIDTH(COMMIT_W), .DEPTH(1)) commit_along (.clk, .in(commit_line[c]), .out(commit_line[c+1]));
    assign probe_bank_read[c] = read && read_columns > c;
    assign commit_live[c] = write && write_columns > c;
    assign commit_is_final[c] = is_final;
    assign commit_data[c*64+:64] = 64'($signed(bottom[c*V_W+:V_W]));
    bank #(.V_W(V_W), .ROWS(ROWS), .BANKS(BANKS)) accumulators (
        .clk,
        .read(probe_bank_read[c]), .read_bank, .read_row, .read_data(partial_data[c*V_W+:V_W]),
        .write(commit_live[c]), .write_bank, .write_row, .write_data(bottom[c*V_W+:V_W]),
        .drain(drain[c]), .drain_bank, .drain_row, .drain_data(drain_data[c*V_W+:V_W]),
        .conflict(collides[c])
    );
  end
  assign probe_drain = drain;
  assign probe_block_ready = g_column[C-1].ends_block;

  requant_unit #(.R(R), .C(C), .V_W(V_W)) requantiser (
      .clk, .restart, .enabled(requant_enabled), .fixed_point, .lanes(requant_lanes), .banks, .block_rows, .t_total,
      .n_total, .block_ready(probe_block_ready), .array_block(stream_block), .bank_free, .output_block, .output_ready,
      .drain, .drain_bank, .drain_row, .drain_data, .scale_column, .scale_row,
      .multiplier(scale_multiplier), .shift(scale_shift), .zero_point, .lowest, .highest,
      .result_valid, .result_row, .result_column, .result, .finished(requant_finished), .blocks_done(probe_blocks_done)
  );

  // ---- counters: the total is the cycle behind the last commit, masked or not, of the last column
  logic [31:0] cycle, ones_multiplies;
  logic last_commit;
  logic [31:0] class_count[0:6];
  logic [31:0] event_count[0:5];
  assign last_commit = commit_line[C-1][COMMIT_W-1];
  assign ones_multiplies = $countones(probe_multiplies);
  always_ff @(posedge clk) begin
    if (restart) begin
      cycle <= 0;
      total <= 0;
      conflict <= 0;
      for (int i = 0; i < 7; i++) class_count[i] <= 0;
      for (int i = 0; i < 6; i++) event_count[i] <= 0;
    end else begin
      cycle <= cycle + 1;
      if (last_commit) total <= cycle + 1;
      if (|collides) conflict <= 1;
      for (int i = 0; i < 7; i++) class_count[i] <= class_count[i] + 32'(probe_class[i]);
      event_count[0] <= event_count[0] + ones_multiplies;
      event_count[1] <= event_count[1] + (x_enable ? 32'(x_lanes) : 0);
      event_count[2] <= event_count[2] + (w_enable ? 32'(w_columns) : 0);
      event_count[3] <= event_count[3] + $countones(probe_bias);
      event_count[4] <= event_count[4] + $countones(probe_bank_read);
      event_count[5] <= event_count[5] + $countones(commit_live);
    end
  end
  for (genvar i = 0; i < 7; i++) assign class_cycles[i*32+:32] = class_count[i];
  for (genvar i = 0; i < 6; i++) assign events[i*32+:32] = event_count[i];

  // ---- the array is done when nothing is left to issue and the tail of R + C cycles has passed
  logic [15:0] quiet;
  always_ff @(posedge clk) begin
    if (restart || probe_class != 0) quiet <= 0;
    else if (quiet != 16'hffff) quiet <= quiet + 1;
  end
  assign finished = quiet > R + C && (!requant_enabled || requant_finished);
endmodule
