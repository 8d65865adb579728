// From an image to a network's input, and its places back: posekit/data/transforms.py, `fit` and `normalise`.
import { round, warp } from './pixels.js'

// A letterbox as `spec` of models.json says. Returns { pixels, matrix, width, height }, the sides without padding.
export function letterbox(image, spec) {
  const { size } = spec
  const factor = Math.min(size / image.width, size / image.height)
  if (spec.align === 'centre') {
    const [tx, ty] = [image.width, image.height].map((side) => -(factor * side - size) / 2)
    const matrix = [factor, tx, factor, ty]
    return { pixels: warp(image, matrix, size, size, spec.pad ?? 0), matrix, width: size, height: size }
  }
  const [width, height] = [image.width, image.height].map((side) => Math.max(round(side * factor), 1))
  const matrix = [width / image.width, 0, height / image.height, 0]
  return { pixels: warp(image, matrix, width, height), matrix, width, height }
}

// Images as (N, 3, height, width) float32, (byte / 255 - mean) / std; what they do not fill is zero.
export function normalised(images, width, height, { mean, std }) {
  const values = new Float32Array(images.length * 3 * height * width)
  images.forEach((image, n) => {
    for (let c = 0; c < 3; c++) {
      const [offset, factor] = [255 * mean[c], 1 / (255 * std[c])]
      const start = (3 * n + c) * height * width
      for (let y = 0; y < image.height; y++)
        for (let x = 0; x < image.width; x++)
          values[start + y * width + x] = (image.data[3 * (y * image.width + x) + c] - offset) * factor
    }
  })
  return values
}

// A point of the network's input in pixels of the image.
export function back([a, tx, d, ty], x, y) {
  return [(x - tx) / a, (y - ty) / d]
}
