// The tiles of one GEMM in the loop order of the timing contract, section 4.4: column block, row block, then k-fold
// (WS/IS) or m-tile of R rows (OS). `advance` moves to the next tile.
module tile_walker #(
    parameter int R = 4,
    parameter int C = 4
) (
    input  logic        clk,
    input  logic        restart,
    input  logic        advance,
    input  logic        output_stationary,
    input  logic [15:0] block_rows,         // acc_rows; a multiple of R for OS
    input  logic [15:0] t_total,
    input  logic [15:0] k_total,
    input  logic [15:0] n_total,
    output logic        valid,
    output logic [15:0] index,              // of the tile
    output logic [15:0] block,              // of its output block
    output logic [15:0] column_base,
    output logic [15:0] row_base,           // of the output block
    output logic [15:0] row_offset,         // of the tile in its block (OS)
    output logic [15:0] depth_base,
    output logic [15:0] rows,
    output logic [15:0] depth,
    output logic [15:0] columns,
    output logic        first_of_block,
    output logic        last_of_block
);
  logic [15:0] block_height, rows_left, depth_left, columns_left;
  logic last_row_block, last_column_block;

  assign columns_left = n_total - column_base;
  assign columns = columns_left < C ? columns_left : 16'(C);
  assign block_height = (t_total - row_base) < block_rows ? t_total - row_base : block_rows;
  assign rows_left = block_height - row_offset;
  assign rows = output_stationary && rows_left > R ? 16'(R) : rows_left;
  assign depth_left = k_total - depth_base;
  assign depth = !output_stationary && depth_left > R ? 16'(R) : depth_left;
  assign first_of_block = output_stationary ? row_offset == 0 : depth_base == 0;
  assign last_of_block = output_stationary ? rows == rows_left : depth == depth_left;
  assign last_row_block = row_base + block_height == t_total;
  assign last_column_block = columns == columns_left;

  always_ff @(posedge clk) begin
    if (restart) begin
      valid <= 1;
      index <= 0;
      block <= 0;
      column_base <= 0;
      row_base <= 0;
      row_offset <= 0;
      depth_base <= 0;
    end else if (advance) begin
      index <= index + 1;
      if (!last_of_block) begin
        if (output_stationary) row_offset <= row_offset + rows;
        else depth_base <= depth_base + depth;
      end else begin
        block <= block + 1;
        row_offset <= 0;
        depth_base <= 0;
        if (!last_row_block) row_base <= row_base + block_height;
        else begin
          row_base <= 0;
          column_base <= column_base + columns;
          if (last_column_block) valid <= 0;
        end
      end
    end
  end
endmodule
