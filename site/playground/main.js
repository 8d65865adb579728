// The page: its state, what the reader changes, and what follows from it. Models: rtmo.js, poet.js, vitpose.js.
import { drawPeople, extras, nearest } from './drawing.js'
import * as occluder from './occluder.js'
import { covered, fromCanvas, resizeByArea, toCanvas } from './pixels.js'
import * as panels from './panels.js'
import * as poet from './poet.js'
import * as rtmo from './rtmo.js'
import * as vitpose from './vitpose.js'
import { load } from './runtime.js'
import { model as words, joints as jointWords } from './words.js'

const LARGEST = 1024 // pixels of a photograph's longer side: a larger one is first reduced, by the mean over areas
const COVER = [128, 128, 128]
const FILES = { rtmo: ['rtmo_cells', 'rtmo_people'], poet: ['poet'], vitpose: ['vitpose', 'rtmo_cells', 'rtmo_people'] }
const SHOWN = { rtmo: 0.3, poet: 0.5, vitpose: 0.3 } // the score slider's start
const $ = (id) => document.getElementById(id)
const json = async (path) => (await fetch(new URL(path, import.meta.url))).json()

const [facts, scenes] = await Promise.all([json('models.json'), json('scenes/scenes.json')])
const { layout } = facts
const state = {
  model: 'rtmo', source: null, boxes: null, rectangle: null, person: 0, joint: 9, layer: 2,
  score: { ...SHOWN }, nms: rtmo.DEFAULTS.nms, from: 'rtmo',
}
let answer = { people: [], before: [], milliseconds: 0 }
let seen = {} // by what it was looked at: a slider does not run the dense network again

// ---- answers

async function look(image) {
  if (state.model === 'rtmo') return rtmo.look(image, facts)
  if (state.model === 'poet') return poet.look(image, facts)
  if (state.from === 'truth') return vitpose.look(image, facts, state.boxes.map((box) => ({ box, score: 1 })))
  const detected = { score: facts.vitpose_tiny.detector_score, nms: rtmo.DEFAULTS.nms }
  const found = await rtmo.people(await rtmo.look(image, facts), detected)
  return vitpose.look(image, facts, found)
}

async function people(of) {
  const score = state.score[state.model]
  if (state.model === 'rtmo') return rtmo.people(of, { score, nms: state.nms })
  if (state.model === 'poet') return poet.people(of, { score })
  const limit = state.from === 'truth' ? null : facts.vitpose_tiny.oks_nms
  return vitpose.people(of, { score, limit, sigmas: layout.sigmas })
}

async function answered() {
  const wait = setTimeout(() => ($('status').textContent = `Loading ${words[state.model].name} …`), 150)
  await Promise.all(FILES[state.model].map(load))
  clearTimeout(wait)
  const { model, from, source, rectangle } = state // as they are now: the reader may go on changing them
  const image = rectangle ? covered(source, rectangle, COVER) : source
  const start = performance.now()
  const key = [model, from, JSON.stringify(rectangle)].join()
  if (seen.key !== key || seen.source !== source) seen = { ...seen, key, source, image, now: await look(image) }
  const now = await people(seen.now)
  const milliseconds = performance.now() - start
  const plain = [model, from].join()
  if (!rectangle) seen = { ...seen, plain, plainSource: source, before: seen.now }
  else if (seen.plain !== plain || seen.plainSource !== source)
    seen = { ...seen, plain, plainSource: source, before: await look(source) }
  return { people: now, before: rectangle ? await people(seen.before) : [], milliseconds, image, source, model }
}

// One answer at a time; of the requests that arrive meanwhile only the last counts.
let running = null
let again = false
function update() {
  again = true
  running ??= (async () => {
    try {
      while (again) {
        again = false
        const last = answer
        answer = await answered()
        follow(last)
        show()
      }
    } catch (error) {
      $('status').textContent = `The model could not run: ${error.message}`
      throw error
    } finally {
      running = null
    }
  })()
  return running
}

// The person that most resembles one of another answer, and -1 where none is near.
function resembling(people, person) {
  const distance = (other) =>
    other.keypoints.reduce((sum, [x, y], k) => sum + Math.hypot(x - person.keypoints[k][0], y - person.keypoints[k][1]), 0)
  const distances = people.map(distance)
  const best = distances.indexOf(Math.min(...distances))
  return distances[best] < 0.1 * layout.keypoints.length * answer.image.width ? best : -1
}

// The chosen person stays chosen when another model answers, or the rectangle changes the order.
function follow(last) {
  const person = last.people[state.person]
  const same = person && last.source === answer.source ? resembling(answer.people, person) : 0
  state.person = Math.max(same, 0)
}

// ---- what is shown

function show() {
  const found = answer.people
  toCanvas(answer.image, $('image'))
  const ratio = answer.image.width / answer.image.height
  $('frame').style.setProperty('--ratio', ratio)
  const count = `${found.length || 'No'} ${found.length === 1 ? 'detection' : 'detections'}`
  $('status').textContent = `${count} · ${words[answer.model].name} answered in ${answer.milliseconds.toFixed(0)} ms`
  showPeople()
  showJoints()
  showChosen()
  document.body.dataset.answered = Number(document.body.dataset.answered ?? 0) + 1
}

function radios(parent, name, labels, checked, chosen) {
  const had = parent.contains(document.activeElement)
  parent.replaceChildren(...labels.map((label, i) => {
    const row = document.createElement('label')
    const input = Object.assign(document.createElement('input'), { type: 'radio', name, value: i })
    input.checked = i === checked
    input.addEventListener('change', () => chosen(i))
    row.append(input, ...label)
    return row
  }))
  if (had) parent.querySelector('input:checked')?.focus()
}

function span(kind, text = '') {
  return Object.assign(document.createElement('span'), { className: kind, textContent: text })
}

function showPeople() {
  const labels = answer.people.map(({ score }, i) => [span('', `${i + 1}`), span('number', score.toFixed(2))])
  for (const [i, label] of labels.entries()) label[0].setAttribute('aria-label', `Person ${i + 1}, score`)
  radios($('people'), 'person', labels, state.person, (i) => {
    state.person = i
    showJoints()
    showChosen()
  })
  if (!labels.length) $('people').textContent = 'Nobody: lower the score, or take the rectangle away.'
}

function showJoints() {
  const person = answer.people[state.person]
  const was = person && answer.before[resembling(answer.before, person)]
  const labels = layout.keypoints.map((name, k) => {
    const bar = span('bar')
    const value = person ? person.visibility[k] : 0
    bar.style.setProperty('--value', value)
    bar.style.setProperty('--side', layout.colours[k])
    if (was) bar.append(Object.assign(span('was'), { style: `--was: ${was.visibility[k]}` }))
    return [span('name', name.replace('_', ' ')), bar, span('number', person ? value.toFixed(2) : '–')]
  })
  radios($('joints'), 'joint', labels, state.joint, (k) => {
    state.joint = k
    showChosen()
  })
  $('joints-help').textContent = jointWords(answer.model, Boolean(was))
}

function showChosen() {
  const person = answer.people[state.person]
  const options = { chosen: state.person, joint: state.joint, extra: extras[answer.model] }
  drawPeople($('overlay'), answer.image, answer.people, layout, options)
  const name = layout.keypoints[state.joint].replace('_', ' ')
  const ink = layout.colours[state.joint]
  const { title, inside } = words[answer.model]
  $('inside-title').textContent = title
  $('inside-text').innerHTML = inside
  $('panel').hidden = !person
  const width = Math.max($('panel').parentElement.clientWidth - 2, 200)
  let said = ''
  if (person && answer.model === 'rtmo') said = panels.heatmaps1d($('panel'), width, answer.image, person, state.joint, ink)
  if (person && answer.model === 'poet')
    said = panels.attention($('panel'), width, answer.image, person, state.layer, layout.colours[5])
  if (person && answer.model === 'vitpose') said = panels.heatmap2d($('panel'), width, person, state.joint, ink)
  const who = answer.model === 'poet' ? `Query ${person?.query + 1}, decoder layer ${state.layer + 1}` : `Person ${state.person + 1}, ${name}`
  $('inside-numbers').textContent = person ? `${who}. ${said.replace(/\s+/g, ' ')}` : ''
  $('panel').setAttribute('aria-label', `${title}. ${said.replace(/\s+/g, ' ')}`)
}

function showControls() {
  const { model } = state
  document.querySelector(`input[name=model][value=${model}]`).checked = true
  $('about').innerHTML = words[model].about
  $('nms-row').hidden = model !== 'rtmo'
  $('boxes-row').hidden = model !== 'vitpose'
  $('layer-row').hidden = model !== 'poet'
  if (!state.boxes) state.from = 'rtmo'
  $('boxes').options[1].disabled = !state.boxes
  $('boxes').value = state.from
  for (const [id, value, text] of [['score', state.score[model]], ['nms', state.nms], ['layer', state.layer + 1, `${state.layer + 1}`]]) {
    $(id).value = value
    $(`${id}-value`).textContent = text ?? value.toFixed(2)
  }
  $('occlude').checked = Boolean(state.rectangle)
  placeRectangle()
}

// ---- images

async function choose(blob, name, boxes) {
  const bitmap = await createImageBitmap(blob)
  const canvas = document.createElement('canvas')
  const shrink = Math.min(1, 4 * LARGEST / Math.max(bitmap.width, bitmap.height)) // nobody's memory holds more
  canvas.width = Math.max(Math.round(bitmap.width * shrink), 1)
  canvas.height = Math.max(Math.round(bitmap.height * shrink), 1)
  canvas.getContext('2d', { willReadFrequently: true }).drawImage(bitmap, 0, 0, canvas.width, canvas.height)
  let image = fromCanvas(canvas)
  const factor = LARGEST / Math.max(image.width, image.height)
  if (factor < 1) image = resizeByArea(image, Math.round(image.width * factor), Math.round(image.height * factor))
  Object.assign(state, { source: image, boxes })
  $('image').setAttribute('aria-label', name)
  if (state.rectangle) state.rectangle = occluder.inside(state.rectangle, image)
  showControls()
  return update()
}

async function chooseScene(i) {
  const scene = scenes[i]
  document.querySelectorAll('input[name=scene]')[i].checked = true
  const blob = await (await fetch(new URL(`scenes/${scene.file}`, import.meta.url))).blob()
  return choose(blob, `Drawn scene: ${scene.words}`, scene.boxes)
}

async function choosePhoto(file) {
  for (const input of document.querySelectorAll('input[name=scene]')) input.checked = false
  try {
    await choose(file, `Your photograph ${file.name}`, null)
  } catch (error) {
    $('status').textContent = `${file.name} is no image that this browser can read (${error.message}).`
  }
}

// ---- the occluding rectangle

function firstRectangle() {
  const joints = answer.image?.width === state.source.width && answer.people[state.person]?.keypoints
  return occluder.around(joints ? joints[state.joint] : null, state.source)
}

function placeRectangle() {
  $('occlude-help').hidden = !state.rectangle
  occluder.place($('occluder'), state.rectangle, state.source)
}

function moveRectangle(rectangle) {
  state.rectangle = occluder.inside(rectangle, state.source)
  placeRectangle()
  return update()
}

function listen() {
  occluder.listen($('occluder'), () => [state.rectangle, state.source], moveRectangle)
  $('occlude').addEventListener('change', (event) => {
    state.rectangle = event.target.checked ? firstRectangle() : null
    placeRectangle()
    update()
  })
  for (const input of document.querySelectorAll('input[name=model]'))
    input.addEventListener('change', () => {
      state.model = input.value
      showControls()
      update()
    })
  const slide = (id, set) => $(id).addEventListener('input', (event) => {
    set(Number(event.target.value))
    showControls()
    update()
  })
  slide('score', (value) => (state.score[state.model] = value))
  slide('nms', (value) => (state.nms = value))
  slide('layer', (value) => (state.layer = value - 1))
  $('boxes').addEventListener('change', (event) => {
    state.from = event.target.value
    update()
  })
  $('photo').addEventListener('change', (event) => event.target.files[0] && choosePhoto(event.target.files[0]))
  const frame = $('frame')
  frame.addEventListener('dragover', (event) => event.preventDefault())
  frame.addEventListener('drop', (event) => {
    event.preventDefault()
    if (event.dataTransfer.files[0]) choosePhoto(event.dataTransfer.files[0])
  })
  frame.addEventListener('click', (event) => {
    if (event.target.closest('#occluder')) return
    const { left, top, width } = frame.getBoundingClientRect()
    const scale = answer.image.width / width
    const hit = nearest(answer.people, (event.clientX - left) * scale, (event.clientY - top) * scale, 24 * scale)
    if (!hit) return
    Object.assign(state, { person: hit.person, joint: hit.joint })
    showPeople()
    showJoints()
    showChosen()
  })
  new ResizeObserver(() => answer.image && showChosen()).observe(document.querySelector('.inside'))
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => answer.image && showChosen())
}

const thumbnails = scenes.map(({ file, name, words: said }) => {
  const image = Object.assign(new Image(), { src: `scenes/${file}`, alt: `${name}: ${said}`, title: name })
  return [image]
})
radios($('scenes'), 'scene', thumbnails, 0, chooseScene)
listen()
showControls()

// For the browser's console and the tests: sets what is given, waits, returns the people that are shown.
globalThis.playground = {
  state,
  async show({ scene, score, ...change } = {}) {
    if (scene !== undefined) await chooseScene(scene)
    Object.assign(state, change)
    if (score !== undefined) state.score[state.model] = score
    showControls()
    await update()
    const found = answer.people.map(({ score, keypoints, visibility }) => ({ score, keypoints, visibility }))
    return { people: found, milliseconds: answer.milliseconds }
  },
}
await chooseScene(0)
