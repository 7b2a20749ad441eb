// The address generator of implicit im2col (timing contract, section 4.5): lane by lane, the place in the feature map
// [images, channels, height, width] of row m (image, oh, ow) and depth k (c, kh, kw), or a pad.
module im2col #(
    parameter int LANES = 4
) (
    input  logic [    15:0] m,
    input  logic [    15:0] k,
    input  logic            lanes_are_rows,  // lane l is row m + l, else depth k + l
    input  logic [14*16-1:0] geometry,
    output logic [LANES*32-1:0] address,
    output logic [   LANES-1:0] pad
);
  logic [15:0] channels, first_channel, height, width, pixels, out_width, taps, kernel_width;
  logic [15:0] stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
  assign {channels, first_channel, height, width, pixels, out_width, taps, kernel_width,
          stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left} = geometry;

  for (genvar l = 0; l < LANES; l++) begin : g_lane
    logic [15:0] row, depth, image, pixel, channel, tap;
    logic signed [31:0] y, x;
    assign row = m + (lanes_are_rows ? l : 0);
    assign depth = k + (lanes_are_rows ? 0 : l);
    assign image = row / pixels;
    assign pixel = row % pixels;
    assign channel = first_channel + depth / taps;
    assign tap = depth % taps;
    assign y = $signed({16'd0, pixel / out_width}) * $signed({16'd0, stride_h})
        + $signed({16'd0, tap / kernel_width}) * $signed({16'd0, dilation_h}) - $signed({16'd0, pad_top});
    assign x = $signed({16'd0, pixel % out_width}) * $signed({16'd0, stride_w})
        + $signed({16'd0, tap % kernel_width}) * $signed({16'd0, dilation_w}) - $signed({16'd0, pad_left});
    assign pad[l] = y < 0 || y >= $signed({16'd0, height}) || x < 0 || x >= $signed({16'd0, width});
    assign address[l*32+:32] = ((32'(image) * 32'(channels) + 32'(channel)) * 32'(height) + y) * 32'(width) + x;
  end
endmodule
