// ONNX Runtime in this page: WebAssembly with SIMD on one thread, so that any static server will do (several threads
// need special headers). Everything is loaded from beside the page.
import * as ort from './ort/ort.wasm.bundle.min.mjs'

const here = (path) => new URL(path, import.meta.url).href
ort.env.wasm.numThreads = 1
ort.env.wasm.wasmPaths = { wasm: here('ort/ort-wasm-simd-threaded.wasm') }
ort.env.logLevel = 'error'

const sessions = new Map()

export function load(name) {
  if (!sessions.has(name)) {
    const options = { executionProviders: ['wasm'] }
    sessions.set(name, ort.InferenceSession.create(here(`models/${name}.onnx`), options))
  }
  return sessions.get(name)
}

// inputs: name -> [values, shape]; returns name -> { data, dims }.
export async function run(name, inputs) {
  const session = await load(name)
  const feeds = {}
  for (const [input, [values, shape]] of Object.entries(inputs))
    feeds[input] = new ort.Tensor(values instanceof Uint8Array ? 'bool' : 'float32', values, shape)
  return session.run(feeds)
}

// Row `index` of a tensor's first axis.
export function row(tensor, index) {
  const length = tensor.data.length / tensor.dims[0]
  return tensor.data.subarray(index * length, (index + 1) * length)
}

export function pairs(values) {
  return Array.from({ length: values.length / 2 }, (_, i) => [values[2 * i], values[2 * i + 1]])
}
