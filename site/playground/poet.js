// POET (Stoffl, Vidal and Mathis 2021): each learned query answers with one pose, a centre and offsets from it, or with
// nobody. No suppression. posekit/models/poet.py, `decode`.
import { back, letterbox, normalised } from './input.js'
import { pairs, row, run } from './runtime.js'

export async function look(image, facts) {
  const spec = facts.poet_tiny
  const { size } = spec
  const { pixels, matrix, width, height } = letterbox(image, spec)
  const padding = new Uint8Array(size * size)
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) padding[y * size + x] = x >= width || y >= height
  const images = [normalised([pixels], size, size, spec), [1, 3, size, size]]
  const found = await run('poet', { images, padding_mask: [padding, [1, size, size]] })
  const side = Math.sqrt(found.attention.dims[2])
  const queries = [...found.scores.data.keys()].sort((i, j) => found.scores.data[j] - found.scores.data[i])
  const place = ([x, y]) => back(matrix, x * width, y * height)
  return queries.map((query) => ({
    query,
    score: found.scores.data[query],
    keypoints: pairs(row(found.keypoints, query)).map(place),
    visibility: [...row(found.visibility, query)],
    center: place([...row(found.centers, query)]),
    // of every decoder layer: side x side tokens of the network's input, of which the image fills a part
    attention: Array.from({ length: found.attention.dims[0] }, (_, layer) => {
      const weights = row(found.attention, layer)
      return weights.slice(query * side * side, (query + 1) * side * side)
    }),
    tokens: { side, columns: Math.ceil((side * width) / size), rows: Math.ceil((side * height) / size) },
    tokenSize: [size / side / matrix[0], size / side / matrix[2]], // in pixels of the image
  }))
}

export async function people(seen, { score }) {
  return seen.filter((person) => person.score >= score)
}
