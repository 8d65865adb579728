// The rectangle that the reader moves over the image, { x, y, width, height } in whole pixels of the image.
const LEAST = 8 // pixels of a side
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }

// The rectangle, moved and cut so that it lies in the image.
export function inside({ x, y, width, height }, image) {
  const wide = Math.min(Math.max(width, LEAST), image.width)
  const high = Math.min(Math.max(height, LEAST), image.height)
  const left = Math.min(Math.max(x, 0), image.width - wide)
  const top = Math.min(Math.max(y, 0), image.height - high)
  return { x: left, y: top, width: wide, height: high }
}

// One to start with, around a point (null: the middle of the image).
export function around(point, image) {
  const [width, height] = [Math.round(0.3 * image.width), Math.round(0.24 * image.height)]
  const [x, y] = point ?? [image.width / 2, image.height / 2]
  return inside({ x: Math.round(x - width / 2), y: Math.round(y - height / 2), width, height }, image)
}

// Puts the button where the rectangle is; null hides it.
export function place(button, rectangle, image) {
  button.hidden = !rectangle
  if (!rectangle) return
  const { x, y, width, height } = rectangle
  const share = (value, side) => `${(100 * value) / side}%`
  button.style.left = share(x, image.width)
  button.style.top = share(y, image.height)
  button.style.width = share(width, image.width)
  button.style.height = share(height, image.height)
  button.setAttribute('aria-label', `Occluding rectangle at ${x}, ${y}, ${width} by ${height} pixels`)
}

// Dragging and arrow keys; the corner (the button's child) and Shift resize. `now` gives [rectangle, image], `moved`
// takes the new rectangle.
export function listen(button, now, moved) {
  button.addEventListener('pointerdown', (event) => {
    button.setPointerCapture(event.pointerId)
    const [start, image] = now()
    const scale = image.width / button.parentElement.clientWidth
    const resizes = event.target !== button
    const move = ({ clientX, clientY }) => {
      const [dx, dy] = [clientX - event.clientX, clientY - event.clientY].map((step) => Math.round(step * scale))
      if (resizes) moved({ ...start, width: start.width + dx, height: start.height + dy })
      else moved({ ...start, x: start.x + dx, y: start.y + dy })
    }
    button.addEventListener('pointermove', move)
    const stop = () => button.removeEventListener('pointermove', move)
    button.addEventListener('pointerup', stop, { once: true })
    button.addEventListener('pointercancel', stop, { once: true })
  })
  button.addEventListener('keydown', (event) => {
    if (!STEPS[event.key]) return
    event.preventDefault()
    const [rectangle, image] = now()
    const [dx, dy] = STEPS[event.key].map((step) => step * Math.max(Math.round(image.width / 64), 1))
    const { x, y, width, height } = rectangle
    if (event.shiftKey) moved({ x, y, width: width + dx, height: height + dy })
    else moved({ x: x + dx, y: y + dy, width, height })
  })
}
