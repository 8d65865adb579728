// RTMO (Lu et al. 2023): every cell of a grid predicts a person; those that survive threshold and suppression get
// keypoints from the Dynamic Coordinate Classifier (section 3.1). posekit/models/rtmo.py, `decode`.
import { back, letterbox, normalised } from './input.js'
import { pairs, row, run } from './runtime.js'
import { overlap, suppressed } from './suppression.js'

export const DEFAULTS = { score: 0.1, nms: 0.65 } // of RTMO.decode
const MOST = 100 // people

// What the dense network sees in an image; no threshold yet.
export async function look(image, facts) {
  const spec = facts.rtmo_tiny
  const { pixels, matrix } = letterbox(image, spec)
  const input = normalised([pixels], spec.size, spec.size, spec)
  const seen = await run('rtmo_cells', { images: [input, [1, 3, spec.size, spec.size]] })
  return { ...seen, matrix, size: spec.size }
}

// The people of what was seen, best first, in pixels of the image.
export async function people(seen, { score, nms }) {
  const { matrix, size } = seen
  const sure = [...seen.scores.data.keys()].filter((cell) => seen.scores.data[cell] > score)
  const box = (cell) => row(seen.boxes, cell)
  const scores = sure.map((cell) => seen.scores.data[cell])
  const kept = suppressed(scores, (i, j) => overlap(box(sure[i]), box(sure[j])), nms).slice(0, MOST)
  const cells = kept.map((i) => sure[i])
  if (!cells.length) return []
  const gather = (tensor) => {
    const rows = cells.map((cell) => row(tensor, cell))
    const values = new Float32Array(rows.length * rows[0].length)
    rows.forEach((one, i) => values.set(one, i * one.length))
    return [values, [rows.length, rows[0].length]]
  }
  const inputs = { features: gather(seen.features), boxes: gather(seen.boxes), cells: gather(seen.cells) }
  const found = await run('rtmo_people', inputs)
  return cells.map((cell, i) => {
    const [x0, y0, x1, y1] = [...box(cell)].map((side) => Math.min(Math.max(side, 0), size))
    const one = (name) => row(found[name], i)
    const [across, down] = [found.bins_x.dims[1], found.bins_y.dims[1]]
    const joint = (values, bins) => (k) => values.subarray(k * bins, (k + 1) * bins)
    return {
      score: seen.scores.data[cell],
      keypoints: pairs(one('keypoints')).map(([x, y]) => back(matrix, x, y)),
      visibility: [...row(seen.visibility, cell)],
      box: [...back(matrix, x0, y0), ...back(matrix, x1, y1)],
      heatmapX: joint(one('heatmap_x'), across),
      heatmapY: joint(one('heatmap_y'), down),
      binsX: [...one('bins_x')].map((x) => back(matrix, x, 0)[0]),
      binsY: [...one('bins_y')].map((y) => back(matrix, 0, y)[1]),
    }
  })
}
