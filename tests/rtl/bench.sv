// The bench for Icarus Verilog: bench.cpp without LOAD, STORE and trace, for a few cases where Verilator is missing.
// Reads int32 words from the file +in (hexadecimal), writes int64 words to +out (formats: tests/rtl/cases.py).
module bench;
  parameter int R = 3;
  parameter int C = 2;
  parameter int A_W = 9;
  parameter int W_W = 9;
  parameter int V_W = 48;
  localparam int WORDS = 1 << 19;
  localparam int OUTPUTS = 1 << 14;
  localparam logic [63:0] NEVER = 64'h8000000000000000;

  logic clk, restart;
  logic [31:0] words[0:WORDS-1];
  logic signed [31:0] header[0:45];
  logic [63:0] sums[0:OUTPUTS-1], results[0:OUTPUTS-1], starts[0:OUTPUTS-1], pushes[0:OUTPUTS-1];
  logic [63:0] ready[0:OUTPUTS-1], done[0:OUTPUTS-1];

  logic weights_ready, operands_ready;
  logic [15:0] push_tile, push_block, stream_tile, stream_block, output_block, x_row, x_depth, w_depth, w_column;
  logic [15:0] bias_row, bias_column, scale_row, scale_column, result_row, result_column, blocks_done;
  logic x_enable, w_enable, tile_starts, push_starts, block_ready, conflict, finished;
  logic [7:0] x_lanes, w_columns, probe_token;
  logic [6:0] probe_class;
  logic [R*32-1:0] x_data;
  logic [C*32-1:0] w_data, bias_data, scale_multiplier, scale_shift, result;
  logic [C-1:0] commit_live, commit_is_final, result_valid, probe_bias, probe_bank_read, probe_drain;
  logic [C*16-1:0] commit_at_row, commit_at_column;
  logic [C*64-1:0] commit_data;
  logic [R*C-1:0] probe_multiplies;
  logic [31:0] total;
  logic [7*32-1:0] class_cycles;
  logic [6*32-1:0] events;

  machine #(.R(R), .C(C), .A_W(A_W), .W_W(W_W), .V_W(V_W)) machine (
      .clk, .restart,
      .output_stationary(header[0][0]), .double_buffer(header[2][0]), .drain_overlap(header[3][0]),
      .flush_between_tiles(header[4][0]), .full_weight_load(header[5][0]), .saturate(header[6][0]),
      .acc_bits(header[7][6:0]), .block_rows(header[8][15:0]), .t_total(header[9][15:0]), .k_total(header[10][15:0]),
      .n_total(header[11][15:0]), .banks(header[12][1:0]), .requant_enabled(header[13][0]),
      .fixed_point(header[14][0]), .requant_lanes(header[15][7:0]), .zero_point(header[16][17:0]),
      .lowest(header[17][17:0]), .highest(header[18][17:0]), .input_stationary(header[19][0]),
      .gather_words(header[20][7:0]), .implicit_im2col(1'b0), .geometry({14{16'd1}}), .pad_value(16'd0),
      .x_address(), .x_pad(), .w_address(), .w_pad(),
      .push_tile, .push_block, .stream_tile, .stream_block, .output_block, .weights_ready, .operands_ready,
      .output_ready(1'b1), .x_enable, .x_lanes, .x_row, .x_depth, .x_data, .w_enable, .w_columns, .w_depth, .w_column,
      .w_data, .bias_row, .bias_column, .bias_data, .scale_row, .scale_column, .scale_multiplier, .scale_shift,
      .commit_live, .commit_is_final, .commit_at_row, .commit_at_column, .commit_data,
      .result_valid, .result_row, .result_column, .result, .probe_token, .probe_class, .probe_tile_starts(tile_starts),
      .probe_push_starts(push_starts), .probe_multiplies, .probe_bias, .probe_bank_read, .probe_drain,
      .probe_block_ready(block_ready), .probe_blocks_done(blocks_done), .total, .class_cycles, .events, .conflict,
      .finished
  );

  // What was asked for in the cycle before.
  logic [15:0] asked_x_row, asked_x_depth, asked_w_depth, asked_w_column;
  logic [15:0] asked_bias_row, asked_bias_column, asked_scale_row, asked_scale_column;
  logic [7:0] asked_x_lanes, asked_w_columns;
  logic asked_x_enable, asked_w_enable;

  int at, count, x_at, w_at, bias_at, multiplier_at, shift_at, weights_at, operands_at, per, cycle, file, place;
  int blocks_ready, blocks_seen, repeated, lane, channel, stop;
  string source, target;

  task tick;
    #1 clk = 1;
    #1 clk = 0;
  endtask

  // Operands of the addresses that were asked for in the cycle before; random words in the other lanes.
  task answer;
    int row, depth;
    for (lane = 0; lane < R; lane = lane + 1) begin
      row = asked_x_row + (header[0][0] ? lane : 0);
      depth = asked_x_depth + (header[0][0] ? 0 : lane);
      x_data[lane*32+:32] = $random;
      if (asked_x_enable && lane < asked_x_lanes && row < header[9] && depth < header[10])
        x_data[lane*32+:32] = words[x_at+row*header[10]+depth];
    end
    for (lane = 0; lane < C; lane = lane + 1) begin
      w_data[lane*32+:32] = $random;
      if (asked_w_enable && lane < asked_w_columns && asked_w_column + lane < header[11] && asked_w_depth < header[10])
        w_data[lane*32+:32] = words[w_at+asked_w_depth*header[11]+asked_w_column+lane];
      channel = header[1][0] ? asked_bias_row : asked_bias_column + lane;
      bias_data[lane*32+:32] = channel < per ? words[bias_at+channel] : $random;
      channel = header[1][0] ? asked_scale_row : asked_scale_column + lane;
      scale_multiplier[lane*32+:32] = header[13][0] && channel < per ? words[multiplier_at+channel] : $random;
      scale_shift[lane*32+:32] = header[13][0] && channel < per ? words[shift_at+channel] : 0;
    end
  endtask

  task observe;
    asked_x_enable = x_enable;
    asked_x_lanes = x_lanes;
    asked_x_row = x_row;
    asked_x_depth = x_depth;
    asked_w_enable = w_enable;
    asked_w_columns = w_columns;
    asked_w_depth = w_depth;
    asked_w_column = w_column;
    asked_bias_row = bias_row;
    asked_bias_column = bias_column;
    asked_scale_row = scale_row;
    asked_scale_column = scale_column;
    if (tile_starts) starts[stream_tile] = cycle;
    if (push_starts) pushes[push_tile] = cycle;
    if (block_ready) begin
      ready[blocks_ready] = cycle + 1;
      blocks_ready = blocks_ready + 1;
    end
    for (lane = 0; lane < C; lane = lane + 1) begin
      if (commit_live[lane] && commit_is_final[lane]) begin
        place = commit_at_row[lane*16+:16] * header[11] + commit_at_column[lane*16+:16] + lane;
        if (sums[place] !== NEVER) repeated = repeated + 1;
        sums[place] = commit_data[lane*64+:64];
      end
      if (result_valid[lane]) begin
        place = result_row * header[11] + result_column + lane;
        if (results[place] !== NEVER) repeated = repeated + 1;
        results[place] = {{32{result[lane*32+31]}}, result[lane*32+:32]};
      end
    end
  endtask

  task run_case;
    for (int i = 0; i < 46; i = i + 1) header[i] = words[at+i];
    per = header[1][0] ? header[9] : header[11];
    x_at = at + 46;
    w_at = x_at + header[9] * header[10];
    bias_at = w_at + header[10] * header[11];
    multiplier_at = bias_at + per;
    shift_at = multiplier_at + (header[13][0] ? per : 0);
    weights_at = shift_at + (header[13][0] ? per : 0);
    operands_at = weights_at + header[21];
    at = operands_at + header[21];
    for (int i = 0; i < OUTPUTS; i = i + 1) begin
      sums[i] = NEVER;
      results[i] = NEVER;
      starts[i] = NEVER;
      pushes[i] = NEVER;
      ready[i] = NEVER;
      done[i] = NEVER;
    end
    asked_x_enable = 0;
    asked_w_enable = 0;
    weights_ready = 0;
    operands_ready = 0;
    restart = 1;
    for (int i = 0; i < R + C + 4; i = i + 1) tick;
    restart = 0;
    blocks_ready = 0;
    blocks_seen = 0;
    repeated = 0;
    stop = 0;
    for (cycle = 0; stop == 0; cycle = cycle + 1) begin
      while (blocks_seen < blocks_done) begin
        done[blocks_seen] = cycle;
        blocks_seen = blocks_seen + 1;
      end
      answer;
      weights_ready = push_tile < header[21] && cycle >= $signed(words[weights_at+push_tile]);
      operands_ready = stream_tile < header[21] && cycle >= $signed(words[operands_at+stream_tile]);
      #1 observe;
      stop = finished || cycle >= header[28];
      tick;
    end
    $fdisplay(file, "%h", 64'(total));
    for (int i = 0; i < 7; i = i + 1) $fdisplay(file, "%h", {32'd0, class_cycles[i*32+:32]});
    for (int i = 0; i < 6; i = i + 1) $fdisplay(file, "%h", {32'd0, events[i*32+:32]});
    $fdisplay(file, "%h\n%h\n%h\n0", 64'(conflict), 64'(repeated), 64'(cycle > header[28]));
    for (int i = 0; i < header[21]; i = i + 1) $fdisplay(file, "%h", starts[i]);
    for (int i = 0; i < header[21]; i = i + 1) $fdisplay(file, "%h", pushes[i]);
    for (int i = 0; i < header[22]; i = i + 1) $fdisplay(file, "%h", ready[i]);
    for (int i = 0; i < header[22]; i = i + 1) $fdisplay(file, "%h", done[i]);
    for (int i = 0; i < 2 * header[22]; i = i + 1) $fdisplay(file, "%h", NEVER);
    for (int i = 0; i < header[9] * header[11]; i = i + 1) $fdisplay(file, "%h", sums[i]);
    for (int i = 0; i < header[9] * header[11]; i = i + 1) $fdisplay(file, "%h", results[i]);
  endtask

  initial begin
    if (!$value$plusargs("in=%s", source) || !$value$plusargs("out=%s", target) || !$value$plusargs("count=%d", count))
      $finish;
    $readmemh(source, words);
    file = $fopen(target, "w");
    clk = 0;
    at = 0;
    while (at < count) run_case;
    $fclose(file);
    $finish;
  end
endmodule
