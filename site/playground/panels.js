// Inside the model: what the chosen person's answer is made of, on one canvas. Plain functions of an answer.
import { toCanvas } from './pixels.js'

const HIGHEST = 280 // CSS pixels of a panel

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()

// Prepares a canvas of so many CSS pixels; returns its context, scaled for sharp screens.
function prepared(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1
  canvas.width = Math.round(width * ratio)
  canvas.height = Math.round(height * ratio)
  canvas.style.aspectRatio = `${width} / ${height}`
  const context = canvas.getContext('2d')
  context.scale(ratio, ratio)
  context.font = '12px system-ui, sans-serif'
  return context
}

function dot(context, x, y, fill) {
  context.beginPath()
  context.arc(x, y, 4.5, 0, 2 * Math.PI)
  context.fillStyle = fill
  context.fill()
  context.lineWidth = 1.5
  context.strokeStyle = '#fff'
  context.stroke()
}

// RTMO: the two one-dimensional heatmaps of a joint beside the part of the image that their bins cover.
export function heatmaps1d(canvas, width, image, person, joint, ink) {
  const { binsX, binsY } = person
  const margin = 64
  const [spanX, spanY] = [binsX, binsY].map((bins) => bins.at(-1) - bins[0])
  const scale = Math.min((width - margin) / spanX, (HIGHEST - margin) / spanY)
  const [wide, high] = [spanX * scale, spanY * scale]
  const left = (width - margin - wide) / 2
  const context = prepared(canvas, width, high + margin)
  context.save()
  context.beginPath()
  context.rect(left, 0, wide, high)
  context.clip()
  context.fillStyle = colour('line')
  context.fillRect(left, 0, wide, high)
  context.translate(left - binsX[0] * scale, -binsY[0] * scale)
  context.scale(scale, scale)
  context.drawImage(toCanvas(image), 0, 0)
  context.restore()
  const [jointX, jointY] = person.keypoints[joint]
  const at = [left + (jointX - binsX[0]) * scale, (jointY - binsY[0]) * scale]
  context.setLineDash([4, 3])
  context.strokeStyle = '#fff'
  for (const [x, y] of [[left + wide, at[1]], [at[0], high]]) {
    context.beginPath()
    context.moveTo(...at)
    context.lineTo(x, y)
    context.stroke()
  }
  context.setLineDash([])
  dot(context, at[0], at[1], ink)
  bars(context, person.heatmapX(joint), binsX.map((bin) => left + (bin - binsX[0]) * scale), high, margin, true, ink)
  bars(context, person.heatmapY(joint), binsY.map((bin) => (bin - binsY[0]) * scale), left + wide, margin, false, ink)
  context.fillStyle = colour('soft')
  context.textAlign = 'left'
  context.fillText(`${binsX.length} bins of x, highest ${percent(person.heatmapX(joint))}`, left, high + margin - 4)
  context.save()
  context.translate(width - (width - margin - wide) / 2 - 4, high - 2)
  context.rotate(-Math.PI / 2)
  context.fillText(`${binsY.length} bins of y, highest ${percent(person.heatmapY(joint))}`, 0, 0)
  context.restore()
  return `The likeliest of ${binsX.length} bins of x has ${percent(person.heatmapX(joint))}, of ${binsY.length} bins of y
    ${percent(person.heatmapY(joint))}.`
}

const percent = (heatmap) => `${Math.round(100 * Math.max(...heatmap))} %`

function bars(context, heatmap, places, edge, margin, lying, ink) {
  const longest = margin - 22
  const step = Math.abs(places[1] - places[0])
  const top = Math.max(...heatmap)
  heatmap.forEach((value, i) => {
    const length = Math.max((value / top) * longest, 0.5)
    const [start, thick] = [places[i] - step / 2 + step * 0.1, step * 0.8]
    context.fillStyle = value / top > 0.02 ? ink : colour('line')
    if (lying) context.fillRect(start, edge + 3, thick, length)
    else context.fillRect(edge + 3, start, length, thick)
  })
}

// POET: what the query attends to in one decoder layer, over the image.
export function attention(canvas, width, image, person, layer, ink) {
  const scale = Math.min(width / image.width, HIGHEST / image.height)
  const [wide, high] = [image.width * scale, image.height * scale]
  const left = (width - wide) / 2
  const context = prepared(canvas, width, high)
  context.save()
  context.beginPath()
  context.rect(left, 0, wide, high)
  context.clip()
  context.filter = 'grayscale(0.85)'
  context.drawImage(toCanvas(image), left, 0, wide, high)
  context.filter = 'none'
  const { side, columns, rows } = person.tokens
  const weights = person.attention[layer]
  const top = Math.max(...weights)
  const [stepX, stepY] = person.tokenSize.map((size) => size * scale)
  for (let y = 0; y < rows; y++)
    for (let x = 0; x < columns; x++) {
      context.fillStyle = ink
      context.globalAlpha = 0.8 * (weights[y * side + x] / top)
      context.fillRect(left + x * stepX, y * stepY, stepX, stepY)
    }
  context.globalAlpha = 1
  const place = ([x, y]) => [left + x * scale, y * scale]
  const centre = place(person.center)
  context.strokeStyle = '#fff'
  context.lineWidth = 1
  for (const point of person.keypoints) {
    context.beginPath()
    context.moveTo(...centre)
    context.lineTo(...place(point))
    context.stroke()
  }
  dot(context, ...centre, '#111')
  context.restore()
  return `The strongest of ${rows * columns} image tokens takes ${Math.round(100 * top)} % of the attention.`
}

// ViTPose: the heatmap of a joint over the crop that the network sees.
export function heatmap2d(canvas, width, person, joint, ink) {
  const { crop, cells } = person
  const scale = Math.min(width / crop.width, HIGHEST / crop.height)
  const [wide, high] = [crop.width * scale, crop.height * scale]
  const left = (width - wide) / 2
  const context = prepared(canvas, width, high)
  context.filter = 'grayscale(0.85)'
  context.drawImage(toCanvas(crop), left, 0, wide, high)
  context.filter = 'none'
  const map = person.heatmap(joint)
  const [stepX, stepY] = [((crop.width - 1) / (cells.columns - 1)) * scale, ((crop.height - 1) / (cells.rows - 1)) * scale]
  context.fillStyle = ink
  context.save()
  context.beginPath()
  context.rect(left, 0, wide, high)
  context.clip()
  map.forEach((value, i) => {
    const [x, y] = [i % cells.columns, Math.floor(i / cells.columns)]
    context.globalAlpha = 0.85 * Math.min(Math.max(value, 0), 1)
    context.fillRect(left + (x - 0.5) * stepX + 0.5 * scale, (y - 0.5) * stepY + 0.5 * scale, stepX, stepY)
  })
  context.restore()
  context.globalAlpha = 1
  const [x, y] = person.points[joint]
  dot(context, left + x * scale, y * scale, '#111')
  return `The highest of ${cells.columns} x ${cells.rows} cells is ${Math.max(...map).toFixed(2)}.`
}
