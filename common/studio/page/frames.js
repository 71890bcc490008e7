// Frames as they travel: red, green and blue of 64 x 64 pixels.

export const SIDE = 64; // [pixels]

/** The picture of a frame: Uint8Array [64 * 64 * 3] -> ImageData. */
export function imageOf(rgb) {
  const image = new ImageData(SIDE, SIDE);
  for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
    image.data[j] = rgb[i];
    image.data[j + 1] = rgb[i + 1];
    image.data[j + 2] = rgb[i + 2];
    image.data[j + 3] = 255;
  }
  return image;
}
