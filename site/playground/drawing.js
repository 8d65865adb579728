// Skeletons over the image, as SVG in the image's own pixels: limbs in the colour of their side, joints filled where the
// model says that they are visible and hollow where not.
const NAMESPACE = 'http://www.w3.org/2000/svg'
export const VISIBLE = 0.5

export function element(name, attributes = {}, parent = null) {
  const made = document.createElementNS(NAMESPACE, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  parent?.append(made)
  return made
}

// people best first; `chosen`: index of the one that the panels show, `joint` of its joint; `extra` draws what a model
// adds to the chosen person.
export function drawPeople(svg, image, people, layout, { chosen, joint, extra }) {
  svg.setAttribute('viewBox', `0 0 ${image.width} ${image.height}`)
  svg.replaceChildren()
  const unit = Math.max(image.width, image.height) / 384
  const order = [...people.keys()].reverse().filter((i) => i !== chosen)
  if (people[chosen]) order.push(chosen)
  for (const i of order) {
    const group = element('g', { class: i === chosen ? 'person chosen' : 'person' }, svg)
    if (i === chosen) extra?.(group, people[i], unit)
    drawPerson(group, people[i], layout, unit, i === chosen ? joint : -1)
  }
}

function drawPerson(group, { keypoints, visibility }, layout, unit, joint) {
  for (const halo of [true, false])
    layout.limbs.forEach(([a, b], i) => {
      const [[x1, y1], [x2, y2]] = [keypoints[a], keypoints[b]]
      const stroke = halo ? '#fff' : layout.limb_colours[i]
      element('line', { x1, y1, x2, y2, stroke, 'stroke-width': unit * (halo ? 4 : 2.2), 'stroke-linecap': 'round' }, group)
    })
  keypoints.forEach(([cx, cy], k) => {
    const [inside, around] = visibility[k] >= VISIBLE ? [layout.colours[k], '#fff'] : ['#fff', layout.colours[k]]
    const style = { fill: inside, stroke: around, 'stroke-width': unit * 0.9 }
    if (k === joint) element('circle', { cx, cy, r: unit * 7, class: 'ring', 'stroke-width': unit * 2 }, group)
    element('circle', { cx, cy, r: unit * (k === joint ? 3.8 : 2.9), ...style }, group)
  })
}

// What models add for the chosen person: RTMO the range of its bins, POET its centre and offsets, ViTPose its box.
export const extras = {
  rtmo(group, { binsX, binsY }, unit) {
    rectangle(group, [binsX[0], binsY[0], binsX.at(-1), binsY.at(-1)], unit)
  },
  poet(group, { center: [x1, y1], keypoints }, unit) {
    for (const [x2, y2] of keypoints) element('line', { x1, y1, x2, y2, class: 'offset', 'stroke-width': unit }, group)
    element('circle', { cx: x1, cy: y1, r: 4.5 * unit, class: 'center', 'stroke-width': unit * 1.5 }, group)
  },
  vitpose(group, { box }, unit) {
    rectangle(group, box, unit)
  },
}

function rectangle(group, [x0, y0, x1, y1], unit) {
  const place = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 }
  element('rect', { ...place, class: 'box under', 'stroke-width': 2.6 * unit }, group)
  const dashes = { 'stroke-width': 1.2 * unit, 'stroke-dasharray': `${5 * unit} ${4 * unit}` }
  element('rect', { ...place, class: 'box', ...dashes }, group)
}

// The person and joint nearest to a point of the image, or null where none is near.
export function nearest(people, x, y, reach) {
  let best = { distance: reach }
  people.forEach(({ keypoints }, person) =>
    keypoints.forEach((point, joint) => {
      const distance = Math.hypot(point[0] - x, point[1] - y)
      if (distance < best.distance) best = { person, joint, distance }
    }),
  )
  return best.person === undefined ? null : best
}
