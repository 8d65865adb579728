// ViTPose (Xu et al. 2022): one person is cut out of the image, and the network answers with a heatmap per joint.
// Crops: posekit/data/crops.py. Decoding: posekit/models/heatmap_decoding.py with UDP's DARK. Suppression:
// posekit/topdown.py.
import { averaged, bilinear } from './pixels.js'
import { back, normalised } from './input.js'
import { row, run } from './runtime.js'
import { similarity, suppressed } from './suppression.js'

const PADDING = 1.25 // of a box, before it is cut out
const COUNTED = 0.2 // joints above this value count in a person's score
const KERNEL = 11 // cells of DARK's blur

// boxes: [{ box: [x0, y0, x1, y1] px, score }]. Returns a pose per box, in pixels of the image.
export async function look(image, facts, boxes) {
  const spec = facts.vitpose_tiny
  const [width, height] = spec.crop
  const good = boxes.filter(({ box }) => box.every(Number.isFinite) && box[2] > box[0] && box[3] > box[1])
  if (!good.length) return []
  const windows = good.map(({ box }) => windowOf(box, width, height))
  const crops = windows.map(({ matrix }) => {
    const [a, tx, d, ty] = matrix
    const [small, step] = averaged(image, matrix)
    return bilinear(small, [a * step[0], tx, d * step[1], ty], width, height)
  })
  const images = [normalised(crops, width, height, spec), [crops.length, 3, height, width]]
  const { heatmaps } = await run('vitpose', { images })
  const [, joints, rows, columns] = heatmaps.dims
  return good.map(({ box, score }, n) => {
    const maps = row(heatmaps, n)
    const map = (k) => maps.subarray(k * rows * columns, (k + 1) * rows * columns)
    const found = Array.from({ length: joints }, (_, k) => locate(map(k), columns, rows))
    const points = found.map(({ x, y }) => [
      (x * (width - 1)) / (columns - 1) + 0.5,
      (y * (height - 1)) / (rows - 1) + 0.5,
    ])
    const counted = found.map(({ value }) => Math.min(value, 1)).filter((value) => value > COUNTED)
    const mean = counted.reduce((sum, value) => sum + value, 0) / Math.max(counted.length, 1)
    return {
      score: mean * score,
      box,
      area: windows[n].area,
      keypoints: points.map(([x, y]) => back(windows[n].matrix, x, y)),
      visibility: found.map(({ value }) => Math.min(Math.max(value, 0), 1)),
      crop: crops[n],
      points,
      heatmap: map,
      cells: { columns, rows },
    }
  })
}

// limit: of the suppression by similarity; null keeps all, which is right for annotated boxes.
export async function people(seen, { score, limit, sigmas }) {
  const scores = seen.map((person) => person.score)
  const alike = limit === null ? () => 0 : (i, j) => similarity(seen[i], seen[j], sigmas)
  return suppressed(scores, alike, limit ?? 1)
    .map((i) => seen[i])
    .filter((person) => person.score >= score)
}

function windowOf([x0, y0, x1, y1], width, height) {
  const [w, h] = [x1 - x0, y1 - y0]
  const across = Math.max(w, (h * width) / height) * PADDING
  const down = Math.max(h, (w * height) / width) * PADDING
  const [a, d] = [(width - 1) / across, (height - 1) / down] // UDP: from the first pixel's centre to the last one's
  return { matrix: [a, width / 2 - (a * (x0 + x1)) / 2, d, height / 2 - (d * (y0 + y1)) / 2], area: across * down }
}

// The highest cell and one Newton step on the logarithm of the blurred map (DARK, Zhang et al. 2020, Eq. 9; the
// differences are those of UDP's code). A map without a positive value gives (-1, -1), as in the published code.
export function locate(map, columns, rows) {
  let best = 0
  for (let i = 1; i < map.length; i++) if (map[i] > map[best]) best = i
  const value = map[best]
  if (!(value > 0)) return { x: -1, y: -1, value }
  const [x, y] = [best % columns, Math.floor(best / columns)]
  const near = blurredAround(map, columns, rows, x, y)
  if (y === 0) near[0] = [...near[1]]
  if (y === rows - 1) near[2] = [...near[1]]
  for (const line of near) {
    if (x === 0) line[0] = line[1]
    if (x === columns - 1) line[2] = line[1]
  }
  const log = near.map((line) => line.map((one) => Math.log(Math.min(Math.max(one, 1e-3), 50))))
  const [[corner, above], [left, middle, right], [, below, last]] = log
  const [gx, gy] = [(right - left) / 2, (below - above) / 2]
  const tiny = 2 ** -23
  const dxx = right - 2 * middle + left + tiny
  const dyy = below - 2 * middle + above + tiny
  const dxy = (last - right - below + 2 * middle - left - above + corner) / 2
  const determinant = dxx * dyy - dxy * dxy
  if (determinant === 0) return { x, y, value }
  return { x: x - (dyy * gx - dxy * gy) / determinant, y: y - (dxx * gy - dxy * gx) / determinant, value }
}

// 3 x 3 values of the blurred map around a cell; beyond its borders the map is mirrored, the edge cell not repeated.
function blurredAround(map, columns, rows, x, y) {
  const radius = (KERNEL - 1) / 2
  const sigma = 0.3 * (radius - 1) + 0.8
  const weights = Array.from({ length: KERNEL }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * sigma ** 2)))
  const sum = weights.reduce((a, b) => a + b)
  const mirrored = (index, length) => {
    if (length === 1) return 0
    const period = 2 * (length - 1)
    const inside = ((index % period) + period) % period
    return Math.min(inside, period - inside)
  }
  return [-1, 0, 1].map((down) =>
    [-1, 0, 1].map((across) => {
      let total = 0
      for (let i = 0; i < KERNEL; i++)
        for (let j = 0; j < KERNEL; j++) {
          const cell = mirrored(y + down + i - radius, rows) * columns + mirrored(x + across + j - radius, columns)
          total += weights[i] * weights[j] * map[cell]
        }
      return total / (sum * sum)
    }),
  )
}
