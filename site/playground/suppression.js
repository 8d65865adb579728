// Who is one person twice: overlap of boxes (RTMO) and similarity of poses (top-down models).

export function overlap(a, b) {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]))
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]))
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1])
  return (width * height) / (area(a) + area(b) - width * height)
}

// Object keypoint similarity of two predicted poses, the mean of their areas as the scale; posekit/topdown.py.
export function similarity(a, b, sigmas) {
  const area = (a.area + b.area) / 2
  const parts = sigmas.map((sigma, k) => {
    const [dx, dy] = [0, 1].map((i) => a.keypoints[k][i] - b.keypoints[k][i])
    return Math.exp(-(dx * dx + dy * dy) / (2 * sigma) ** 2 / area / 2)
  })
  return parts.reduce((sum, part) => sum + part, 0) / parts.length
}

// Indices to keep, best first: each drops the less sure ones that are more alike than `limit`.
export function suppressed(scores, alike, limit) {
  let left = [...scores.keys()].sort((i, j) => scores[j] - scores[i])
  const kept = []
  while (left.length) {
    const [best, ...rest] = left
    kept.push(best)
    left = rest.filter((other) => !(alike(best, other) > limit))
  }
  return kept
}
