// Images as the models see them: { width, height, data }, RGB bytes row by row. Resizing and warping as
// posekit/data/transforms.py does it with OpenCV. Coordinates: COCO pixels, the image's top-left corner is (0, 0).
// A matrix is [a, tx, d, ty]: x' = a x + tx, y' = d y + ty; nothing here turns.

export function fromCanvas(canvas) {
  const { width, height } = canvas
  const rgba = canvas.getContext('2d', { willReadFrequently: true }).getImageData(0, 0, width, height).data
  const data = new Uint8ClampedArray(width * height * 3)
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    data[to++] = rgba[from]
    data[to++] = rgba[from + 1]
    data[to++] = rgba[from + 2]
  }
  return { width, height, data }
}

export function toCanvas(image, canvas = document.createElement('canvas')) {
  canvas.width = image.width
  canvas.height = image.height
  const rgba = new ImageData(image.width, image.height)
  for (let from = 0, to = 0; from < image.data.length; to += 4) {
    rgba.data[to] = image.data[from++]
    rgba.data[to + 1] = image.data[from++]
    rgba.data[to + 2] = image.data[from++]
    rgba.data[to + 3] = 255
  }
  canvas.getContext('2d').putImageData(rgba, 0, 0)
  return canvas
}

// A copy with a rectangle { x, y, width, height } of whole pixels in one colour.
export function covered(image, rectangle, colour) {
  const copy = { ...image, data: image.data.slice() }
  const right = Math.min(rectangle.x + rectangle.width, image.width)
  const bottom = Math.min(rectangle.y + rectangle.height, image.height)
  for (let y = Math.max(rectangle.y, 0); y < bottom; y++)
    for (let x = Math.max(rectangle.x, 0); x < right; x++) copy.data.set(colour, 3 * (y * image.width + x))
  return copy
}

// Python's round: halves go to the even number.
export function round(value) {
  const floor = Math.floor(value)
  if (value - floor !== 0.5) return Math.round(value)
  return floor % 2 ? floor + 1 : floor
}

// The mean over the area of every new pixel: cv2.INTER_AREA of an image that shrinks. OpenCV rounds halves up where it
// takes 2 x 2 pixels, and to the even number otherwise.
export function resizeByArea(image, width, height) {
  const whole = image.width === 2 * width && image.height === 2 * height ? Math.round : round
  const [columns, rows] = [shares(image.width, width), shares(image.height, height)]
  const wide = new Float64Array(width * image.height * 3)
  for (let y = 0, to = 0; y < image.height; y++)
    for (let x = 0; x < width; x++, to += 3)
      for (let i = columns.start[x]; i < columns.start[x + 1]; i++) {
        const [from, share] = [3 * (y * image.width + columns.index[i]), columns.share[i]]
        wide[to] += share * image.data[from]
        wide[to + 1] += share * image.data[from + 1]
        wide[to + 2] += share * image.data[from + 2]
      }
  const data = new Uint8ClampedArray(width * height * 3)
  const length = 3 * width
  const line = new Float64Array(length)
  for (let y = 0; y < height; y++) {
    line.fill(0)
    for (let i = rows.start[y]; i < rows.start[y + 1]; i++) {
      const [from, share] = [rows.index[i] * length, rows.share[i]]
      for (let j = 0; j < length; j++) line[j] += share * wide[from + j]
    }
    for (let j = 0; j < length; j++) data[y * length + j] = whole(line[j])
  }
  return { width, height, data }
}

// Which old pixels a new one covers: of new pixel i the entries start[i] to start[i + 1] of `index` and `share`.
function shares(length, count) {
  const scale = length / count
  const [start, index, share] = [[0], [], []]
  for (let i = 0; i < count; i++) {
    const low = i * scale
    const high = Math.min(low + scale, length)
    for (let j = Math.floor(low); j < Math.ceil(high - 1e-9); j++) {
      index.push(j)
      share.push((Math.min(high, j + 1) - Math.max(low, j)) / (high - low))
    }
    start.push(index.length)
  }
  return { start, index, share: Float64Array.from(share) }
}

// cv2.INTER_LINEAR for bytes: weights of 11 bits, as OpenCV rounds them.
export function resizeLinear(image, width, height) {
  const columns = neighbours(image.width, width)
  const rows = neighbours(image.height, height)
  const data = new Uint8ClampedArray(width * height * 3)
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 3; c++) {
        const [left, right, a0, a1] = columns[x]
        const [top, bottom, b0, b1] = rows[y]
        const at = (row, column) => image.data[3 * (row * image.width + column) + c]
        const first = (at(top, left) * a0 + at(top, right) * a1) >> 4
        const second = (at(bottom, left) * a0 + at(bottom, right) * a1) >> 4
        data[3 * (y * width + x) + c] = (((b0 * first) >> 16) + ((b1 * second) >> 16) + 2) >> 2
      }
  return { width, height, data }
}

function neighbours(length, count) {
  return Array.from({ length: count }, (_, i) => {
    const place = Math.fround(((i + 0.5) * length) / count - 0.5)
    let first = Math.floor(place)
    let share = Math.fround(place - first)
    if (first < 0) [first, share] = [0, 0]
    if (first >= length - 1) [first, share] = [length - 1, 0]
    return [first, Math.min(first + 1, length - 1), round((1 - share) * 2048), round(share * 2048)]
  })
}

// The image resampled once into a frame; bilinear, after a mean where it shrinks more than twofold.
export function warp(image, matrix, width, height, border = 0) {
  const [a, tx, d, ty] = matrix
  const whole = [a * image.width - width, d * image.height - height, tx, ty].every((miss) => Math.abs(miss) < 1e-6)
  if (whole && width === image.width && height === image.height) return image
  if (whole) return (Math.min(a, d) < 0.5 ? resizeByArea : resizeLinear)(image, width, height)
  const [small, step] = averaged(image, matrix)
  return bilinear(small, [a * step[0], tx, d * step[1], ty], width, height, border)
}

const means = new WeakMap() // image -> factor -> what `averaged` made of it: the crops of an image share it

// [the image reduced by the whole number that the matrix shrinks it by, old pixels per new one in x and y].
export function averaged(image, [a, , d]) {
  const factor = Math.max(Math.min(Math.trunc(1 / Math.max(Math.sqrt(a * d), 1e-3)), image.width, image.height), 1)
  if (factor === 1) return [image, [1, 1]]
  if (!means.has(image)) means.set(image, new Map())
  const known = means.get(image)
  if (!known.has(factor))
    known.set(factor, resizeByArea(image, round(image.width / factor), round(image.height / factor)))
  const small = known.get(factor)
  return [small, [image.width / small.width, image.height / small.height]]
}

// cv2.warpAffine, INTER_LINEAR with a constant border. OpenCV puts pixel centres on integers.
export function bilinear(image, [a, tx, d, ty], width, height, border = 0) {
  const [scaleX, scaleY] = [Math.fround(1 / a), Math.fround(1 / d)]
  const shiftX = Math.fround((0.5 - 0.5 * a - tx) / a)
  const shiftY = Math.fround((0.5 - 0.5 * d - ty) / d)
  const data = new Uint8ClampedArray(width * height * 3)
  const inside = (x, y) => x >= 0 && y >= 0 && x < image.width && y < image.height
  for (let y = 0; y < height; y++) {
    const placeY = Math.fround(y * scaleY + shiftY)
    const top = Math.floor(placeY)
    for (let x = 0; x < width; x++) {
      const placeX = Math.fround(x * scaleX + shiftX)
      const left = Math.floor(placeX)
      const [shareX, shareY] = [placeX - left, placeY - top]
      for (let c = 0; c < 3; c++) {
        const at = (i, j) => (inside(i, j) ? image.data[3 * (j * image.width + i) + c] : border)
        const upper = at(left, top) * (1 - shareX) + at(left + 1, top) * shareX
        const lower = at(left, top + 1) * (1 - shareX) + at(left + 1, top + 1) * shareX
        data[3 * (y * width + x) + c] = round(upper * (1 - shareY) + lower * shareY)
      }
    }
  }
  return { width, height, data }
}
